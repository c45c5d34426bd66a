# SPDX-License-Identifier: Apache-2.0
"""Dense seed points from coarse multi-view stereo between photos with known cameras.

Features exist only at corners; stereo also finds surfaces with little texture. Splats from few photos need seeds there:
without them, fog near the cameras explains the photos as well as the surface does.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from img3d_base.progress import with_progress
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.seeds.triangulation import moved_world_to_cameras
from img3d_dataparsers.stereo.photo_views import stereo_view
from img3d_kernels.projection import in_picture
from img3d_kernels.stereo.consistency import count_agreeing, in_large_pieces, without_rims
from img3d_kernels.stereo.patch_match import patch_match
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import StereoView, rays

RECIPE = 4
"""Version number: increase it with every change that affects the points, to invalidate cached ones."""
IMAGE_SIZE = 320
"""Longest side in pixels of the photos used for stereo."""
MAX_PHOTOS = 40
"""Number of photos up to which stereo is used by default; with more, triangulated points are enough."""
NUM_SOURCES = 6
"""Number of photos that each photo is compared with."""
MIN_AGREEING = 2
"""Number of these photos whose depth must agree; one is enough on large pieces of surface with texture."""
TEXTURE_SIZE, MIN_CONTRAST = 7, 8.0
"""Side in pixels of the patches, and the least standard deviation of their brightness (of 255), where one is enough."""
MIN_PIECE_OF_ONE = 0.005
"""Smallest piece of surface, as a share of the picture, where one is enough."""
SEEN_THROUGH = 0.9
"""A photo sees through what is nearer than this part of the depth that it has there."""
MAX_DIFFERENCE = 0.02
"""Largest relative difference between depths that agree."""
MAX_POINTS = 30_000
"""Largest number of points returned; a random choice of more."""


def dense_points(photos: Img3dImageDataset, camera_to_worlds: FloatArray, sparse: FloatArray) -> SeedPoints:
    """Points on surfaces whose depth at least three photos agree on, or two on large pieces with texture. A point is
    dropped if as many photos see through it as confirm it.

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
    xyz, rgb, confirmed_by = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.uint8)], [np.empty(0, dtype=np.int64)]
    surfaces = []
    for i, depth in depths.items():
        others = [j for j in sources[i] if j in depths]
        agreeing = count_agreeing(
            views[i], depth, [views[j] for j in others], [depths[j] for j in others], (MAX_DIFFERENCE,)
        )[0]
        confirmed = _confirmed(views[i], depth, agreeing)
        surfaces.append((views[i], depth * confirmed))
        in_camera = (rays(views[i].K, *views[i].size) * depth[..., None])[confirmed].double().numpy()
        pose = torch.linalg.inv(views[i].viewmat).numpy()
        xyz.append(in_camera @ pose[:3, :3].T + pose[:3, 3])
        rgb.append(images[i][..., :3][confirmed.numpy()])
        confirmed_by.append(agreeing[confirmed].numpy())
    found, colors, agreed = np.concatenate(xyz), np.concatenate(rgb), np.concatenate(confirmed_by)
    if len(found) > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(found), MAX_POINTS, replace=False))
        found, colors, agreed = found[chosen], colors[chosen], agreed[chosen]
    kept = _times_seen_through(torch.from_numpy(found).float(), surfaces).numpy() < agreed
    return found[kept] * scale + center, colors[kept]


def _confirmed(view: StereoView, depth: Float32[Tensor, "H W"], agreeing: Int64[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Which pixels' depths are confirmed, by how many other photos agree on each; none at the rims of surfaces."""
    once = (agreeing == 1) & _textured(view)
    return without_rims((agreeing >= MIN_AGREEING) | in_large_pieces(view, depth * once, MIN_PIECE_OF_ONE))


def _textured(view: StereoView) -> Bool[Tensor, "H W"]:
    """Which pixels have enough texture around them that two photos don't agree by chance, as they do in the sky."""
    grey, size = view.grey.numpy().astype(np.float32), (TEXTURE_SIZE, TEXTURE_SIZE)
    variance = cv2.blur(grey**2, size) - cv2.blur(grey, size) ** 2
    return torch.from_numpy(variance >= MIN_CONTRAST**2)


def _times_seen_through(
    points: Float32[Tensor, "P 3"], surfaces: Sequence[tuple[StereoView, Float32[Tensor, "_ _"]]]
) -> Int64[Tensor, "P"]:
    """In how many views, with their depths (0 where unknown), each point is far before the surface."""
    count = torch.zeros(len(points), dtype=torch.int64)
    for view, surface in surfaces:
        height, width = view.size
        inside, pixels, in_camera = in_picture(points, view.K, view.viewmat, width, height)
        column, row = torch.where(inside[:, None], pixels, 0).long().unbind(dim=1)
        count += inside & (in_camera[:, 2] < SEEN_THROUGH * surface[row, column])
    return count
