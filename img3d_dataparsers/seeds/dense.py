# SPDX-License-Identifier: Apache-2.0
"""Dense seed points from coarse multi-view stereo between photos with known cameras.

Features exist only at corners; stereo also finds surfaces with little texture. Splats from few photos need seeds there:
without them, fog near the cameras explains the photos as well as the surface does.
"""

from __future__ import annotations

import numpy as np
import torch

from img3d_base.progress import with_progress
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.seeds.triangulation import moved_world_to_cameras
from img3d_dataparsers.stereo.photo_views import stereo_view
from img3d_kernels.stereo.consistency import count_agreeing
from img3d_kernels.stereo.patch_match import patch_match
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import rays

RECIPE = 2
"""Version number: increase it with every change that affects the points, to invalidate cached ones."""
IMAGE_SIZE = 320
"""Longest side in pixels of the photos used for stereo."""
MAX_PHOTOS = 40
"""Number of photos up to which stereo is used by default; with more, triangulated points are enough."""
NUM_SOURCES = 6
"""Number of photos that each photo is compared with."""
MIN_AGREEING = 2
"""Number of these photos whose depth must agree."""
MAX_DIFFERENCE = 0.02
"""Largest relative difference between depths that agree."""
MAX_POINTS = 30_000
"""Largest number of points returned; a random choice of more."""


def dense_points(photos: Img3dImageDataset, camera_to_worlds: FloatArray, sparse: FloatArray) -> SeedPoints:
    """Points on surfaces whose depth at least three photos agree on (two, if a photo overlaps with only one other).

    Args:
        photos: Read at IMAGE_SIZE. Masked pixels yield no points.
        camera_to_worlds: `[N, 4, 4]` of the photos, OpenGL camera axes, in double precision.
        sparse: Triangulated points `[P, 3]` in the same world. They tell which photos overlap, and the range of depths.

    Returns:
        Points in the world of `camera_to_worlds` and their colours; none if the photos have too little in common.
    """
    # Stereo works in single precision: move the scene to the origin and scale it to unit size.
    origins = camera_to_worlds[:, :3, 3]
    center = origins.mean(axis=0)
    scale = float(np.abs(origins - center).max()) or 1.0
    world_to_cameras = moved_world_to_cameras(camera_to_worlds, center, scale)
    images = [photos.get_numpy_image(i) for i in range(len(photos))]
    views = [
        stereo_view(photos, i, image, world_to_camera)
        for i, (image, world_to_camera) in enumerate(zip(images, world_to_cameras, strict=True))
    ]
    points = torch.from_numpy((sparse - center) / scale)
    sources = choose_sources(views, points, NUM_SOURCES)
    ranges = [depth_range(view, points) for view in views]
    depths = {}
    for i in with_progress(range(len(views)), "Coarse stereo", len(views)):
        span = ranges[i]
        if span is not None and sources[i]:
            depths[i] = patch_match(views[i], [views[j] for j in sources[i]], *span, seed=i).depth
    xyz, rgb = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.uint8)]
    for i, depth in depths.items():
        known = [j for j in sources[i] if j in depths]
        agreeing = count_agreeing(
            views[i], depth, [views[j] for j in known], [depths[j] for j in known], (MAX_DIFFERENCE,)
        )[0]
        kept = (agreeing >= min(MIN_AGREEING, len(known))) & (agreeing > 0)
        in_camera = (rays(views[i].K, *views[i].size) * depth[..., None])[kept].double()
        pose = torch.linalg.inv(views[i].viewmat)
        xyz.append((in_camera @ pose[:3, :3].T + pose[:3, 3]).numpy())
        rgb.append(images[i][..., :3][kept.numpy()])
    found, colors = np.concatenate(xyz), np.concatenate(rgb)
    if len(found) > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(found), MAX_POINTS, replace=False))
        found, colors = found[chosen], colors[chosen]
    return found * scale + center, colors
