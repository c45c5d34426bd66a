# SPDX-License-Identifier: Apache-2.0
"""Dense seed points from coarse multi-view stereo between photos with known cameras.

Features exist only at corners; stereo also finds surfaces with little texture. Splats from few photos need seeds there:
without them, fog near the cameras explains the photos as well as the surface does.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from img3d_base.progress import with_progress
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.seeds.triangulation import moved_world_to_cameras
from img3d_dataparsers.stereo.photo_views import stereo_view
from img3d_kernels.depth_cells import in_cells, nearest_depths
from img3d_kernels.stereo.consistency import count_agreeing, in_large_pieces
from img3d_kernels.stereo.patch_match import patch_match
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import StereoView, rays

PointsAndColors = tuple[Float64[Tensor, "_ 3"], npt.NDArray[np.uint8]]
"""Points `[P, 3]`, and the colours `[P, 3]` of their pixels."""

RECIPE = 3
"""Version number: increase it with every change that affects the points, to invalidate cached ones."""
IMAGE_SIZE = 320
"""Longest side in pixels of the photos used for stereo."""
MAX_PHOTOS = 40
"""Number of photos up to which stereo is used by default; with more, triangulated points are enough."""
NUM_SOURCES = 6
"""Number of photos that each photo is compared with."""
MIN_AGREEING = 2
"""Number of these photos whose depth must agree; where no points are known otherwise, one is enough if no photo sees
through the place."""
TEXTURE_SIZE, MIN_CONTRAST = 7, 8.0
"""Side in pixels of the patches, and the least standard deviation of their brightness (of 255), where one is enough."""
SEEN_THROUGH = 0.9
"""A photo sees through what is nearer than this part of the depth that it has there."""
MAX_DIFFERENCE = 0.02
"""Largest relative difference between depths that agree."""
MAX_POINTS = 30_000
"""Largest number of points returned; a random choice of more."""


def dense_points(photos: Img3dImageDataset, camera_to_worlds: FloatArray, sparse: FloatArray) -> SeedPoints:
    """Points on surfaces whose depth at least three photos agree on (two, if a photo overlaps with only one other);
    where there are none, those that two agree on and no other contradicts.

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
    firm, confirmed_once = [], {}
    for i, depth in depths.items():
        known = [j for j in sources[i] if j in depths]
        agreeing = count_agreeing(
            views[i], depth, [views[j] for j in known], [depths[j] for j in known], (MAX_DIFFERENCE,)
        )[0]
        enough = (agreeing >= min(MIN_AGREEING, len(known))) & (agreeing > 0)
        firm.append(_points_and_colors(views[i], depth, enough, images[i]))
        once = (agreeing == 1) & ~enough & _textured(views[i])
        once &= in_large_pieces(views[i], depth * once)
        confirmed_once[i] = _points_and_colors(views[i], depth, once, images[i])
    firm_points = torch.cat([points, *(xyz for xyz, _ in firm)])
    found = firm + _in_gaps(confirmed_once, views, firm_points)
    xyz = np.concatenate([np.empty((0, 3)), *(xyz.numpy() for xyz, _ in found)])
    rgb = np.concatenate([np.empty((0, 3), dtype=np.uint8), *(colors for _, colors in found)])
    if len(xyz) > MAX_POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(xyz), MAX_POINTS, replace=False))
        xyz, rgb = xyz[chosen], rgb[chosen]
    return xyz * scale + center, rgb


def _textured(view: StereoView) -> Bool[Tensor, "H W"]:
    """Which pixels have enough texture around them that two photos don't agree by chance, as they do in the sky."""
    grey, size = view.grey.numpy().astype(np.float32), (TEXTURE_SIZE, TEXTURE_SIZE)
    variance = cv2.blur(grey**2, size) - cv2.blur(grey, size) ** 2
    return torch.from_numpy(variance >= MIN_CONTRAST**2)


def _points_and_colors(
    view: StereoView, depth: Float32[Tensor, "H W"], kept: Bool[Tensor, "H W"], image: npt.NDArray[np.uint8]
) -> PointsAndColors:
    """The points of some pixels, and their colours."""
    in_camera = (rays(view.K, *view.size) * depth[..., None])[kept].double()
    pose = torch.linalg.inv(view.viewmat)
    return in_camera @ pose[:3, :3].T + pose[:3, 3], image[..., :3][kept.numpy()]


def _in_gaps(
    candidates: dict[int, PointsAndColors], views: Sequence[StereoView], firm: Float64[Tensor, "F 3"]
) -> list[PointsAndColors]:
    """The candidates, by the index of the view that they are of, where this view has no firm points and no other view
    has firm points far behind them."""
    cameras = [(view.K, view.viewmat, *reversed(view.size)) for view in views]
    surfaces = [nearest_depths(firm, *camera).view(-1) for camera in cameras]
    found = []
    for i, (xyz, colors) in candidates.items():
        kept = surfaces[i][in_cells(xyz, *cameras[i])[2]] == 0
        for camera, surface in zip(cameras, surfaces, strict=True):
            _, inside, cells, depths = in_cells(xyz, *camera)
            kept &= ~(inside & (depths < SEEN_THROUGH * surface[cells]))
        found.append((xyz[kept], colors[kept.numpy()]))
    return found
