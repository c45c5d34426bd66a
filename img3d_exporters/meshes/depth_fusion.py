# SPDX-License-Identifier: Apache-2.0
"""One surface from many pictures with depth: a truncated signed distance, averaged over the pictures, is zero there.

Curless and Levoy 1996, in Open3D's sparse blocks of voxels. Every picture has its say in every block that any picture
sees a surface in, and where nothing is in a picture's way, space is empty: what only a few see in mid-air vanishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32

from img3d_assets.selection import Point
from img3d_base.errors import InputError
from img3d_dataparsers.depth.maps import is_continuous
from img3d_exporters.meshes.surface_views import SurfaceView
from img3d_methods.splat.seed_points import point_of_attention

BLOCK = 8
"""Voxels along the edge of a block; and those in front of a surface and behind it that a picture has an exact say in.
The latter by measurement: with half of it noise is let through, with twice as many thin parts grow thick."""
MIN_WEIGHT = 1.0
"""Pictures that must have seen a voxel for it to bound a surface."""
PIXELS_PER_BLOCK = 2
"""Every how many pixels a picture says where blocks are needed."""
FREE = 1e6
"""Depth in voxels of what is infinitely far away."""
SAMPLES = 20_000
"""Points of each picture that tell where the surface is, about."""
OUTLIERS = 0.005
"""Share of points at either end of each axis that may be far from the rest."""
REACH = 0.1
"""How much the region extends beyond the rest, if there are points, relative to its longest side."""


MARGIN = 0.03
"""Around the surfaces, relative to the same: else the outermost would lie on the border."""


@dataclass(frozen=True)
class Region:
    """The box that a mesh is made of what is in."""

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]

    @property
    def size(self) -> float:
        """Of the longest side."""
        return float((self.high - self.low).max())


def region_of(views: Sequence[SurfaceView], crop_min: Point | None, crop_max: Point | None) -> Region:
    """What is given, and as far as nothing is, where the surfaces are.

    Cameras that look inward, at an object, mean what is within their own distance of what they look at, and not what
    is behind it. A few points far from the others don't count.

    Args:
        views: With the depth of surfaces.
        crop_min: Its lowest corner.
        crop_max: Its highest corner.

    Raises:
        InputError: There is nothing in view, or nothing in that box.
    """
    points = _points_in_view(views)
    if len(points) == 0:
        raise InputError("There is no surface in view of the cameras: nothing to make a mesh of.")
    ends = f"what is in view is between {_text(points.min(axis=0))} and {_text(points.max(axis=0))}"
    low = np.array(crop_min, float) if crop_min is not None else np.full(3, -np.inf)
    high = np.array(crop_max, float) if crop_max is not None else np.full(3, np.inf)
    if not (low < high).all():
        raise InputError(f"--crop-min {_text(low)} is not below --crop-max {_text(high)} on every axis; {ends}.")
    inside = points[((points >= low) & (points <= high)).all(axis=1)]
    if len(inside) == 0:
        raise InputError(f"There is no surface between {_text(low)} and {_text(high)}: {ends}.")
    near = inside[_within_cameras(inside, views)]
    near = near if len(near) else inside
    first, last = np.quantile(near, [OUTLIERS, 1 - OUTLIERS], axis=0)
    reach = REACH * (last - first).max()
    first, last = np.maximum(first - reach, near.min(axis=0)), np.minimum(last + reach, near.max(axis=0))
    margin = MARGIN * (last - first).max()
    low, high = np.where(np.isfinite(low), low, first - margin), np.where(np.isfinite(high), high, last + margin)
    return Region(low, high)


def fused(
    views: Sequence[SurfaceView], extent: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "F 3"]]:
    """The surface in the box from the origin to `extent`. Lengths are in voxels.

    Args:
        views: With the depth of surfaces.
        extent: The box's upper corner. The surface is cut there, within a voxel.

    Returns:
        Vertices; faces, counter-clockwise as seen from outside.

    Raises:
        InputError: There is none.
    """
    import open3d as o3d

    depths = [surface_depth(view) for view in views]
    blocks = _blocks_at_surfaces(views, depths, extent)
    device, f32 = o3d.core.Device("CPU:0"), o3d.core.float32
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight"), (f32, f32), ((1), (1)), 1.0, BLOCK, max(len(blocks), 1), device
    )
    for view, depth in zip(views, depths, strict=True):
        grid.integrate(
            o3d.core.Tensor(blocks),
            o3d.t.geometry.Image(np.minimum(depth, FREE)[..., None]),
            o3d.core.Tensor(view.K),
            o3d.core.Tensor(view.viewmat),
            1.0,
            2 * FREE,
            float(BLOCK),
        )
    mesh = grid.extract_triangle_mesh(MIN_WEIGHT)
    if mesh.is_empty():
        raise InputError("The pictures do not agree on any surface there: they may show little, or too many things.")
    vertices, faces = mesh.vertex.positions.numpy().astype(np.float64), mesh.triangle.indices.numpy().astype(np.int64)
    outside = ((vertices < 0) | (vertices > extent)).any(axis=1)
    return vertices, faces[~outside[faces].any(axis=1)]


def surface_depth(view: SurfaceView) -> Float32[np.ndarray, "H W"]:
    """Its depth, unknown (0) also where a neighbour sees another surface: what is rendered there is between the two."""
    with np.errstate(invalid="ignore"):
        kept = is_continuous(view.depth) | np.isinf(view.depth)
    return np.where(kept, view.depth, np.float32(0))


def _points_in_view(views: Sequence[SurfaceView]) -> Float[np.ndarray, "M 3"]:
    """About SAMPLES of each."""
    parts = []
    for view in views:
        stride = max(1, round((view.depth.size / SAMPLES) ** 0.5))
        parts.append(_points(view, surface_depth(view), stride))
    return np.concatenate(parts)


def _points(view: SurfaceView, depth: Float[np.ndarray, "H W"], stride: int) -> Float[np.ndarray, "M 3"]:
    """World coordinates of what every so many pixels' finite depth is that of."""
    depth = depth[stride // 2 :: stride, stride // 2 :: stride]
    rows, columns = np.nonzero((depth > 0) & np.isfinite(depth))
    first = stride // 2 + 0.5
    pixels = np.stack([columns, rows, np.zeros_like(rows)], axis=1) * stride + [first, first, 1.0]
    in_camera = pixels @ np.linalg.inv(view.K).T * depth[rows, columns, None]
    return (in_camera - view.viewmat[:3, 3]) @ view.viewmat[:3, :3]


def _within_cameras(points: Float[np.ndarray, "M 3"], views: Sequence[SurfaceView]) -> Bool[np.ndarray, "M"]:
    """Which are as near to what the cameras look at as those are; all, if they don't look inward."""
    rotations = np.stack([view.viewmat[:3, :3] for view in views])
    forward = rotations[:, 2]
    translations = np.stack([view.viewmat[:3, 3] for view in views])
    origins = np.einsum("cji,cj->ci", rotations, np.negative(translations))
    target = point_of_attention(torch.from_numpy(origins), torch.from_numpy(forward)).numpy()
    ahead = np.einsum("ci,ci->c", target - origins, forward)
    if np.median(ahead) <= 0:
        return np.ones(len(points), bool)
    reach = np.median(np.linalg.norm(target - origins, axis=1))
    return np.linalg.norm(points - target, axis=1) <= reach


def _blocks_at_surfaces(
    views: Sequence[SurfaceView], depths: Sequence[Float[np.ndarray, "_ _"]], extent: Float[np.ndarray, "3"]
) -> Int32[np.ndarray, "B 3"]:
    """Coordinates of the blocks that a surface is in, and of those around them; lengths in voxels."""
    base = int(extent.max()) // BLOCK + 3
    numbers = np.zeros(0, np.int64)
    for view, depth in zip(views, depths, strict=True):
        points = _points(view, depth, PIXELS_PER_BLOCK)
        points = points[((points >= -BLOCK) & (points < extent + BLOCK)).all(axis=1)]
        x, y, z = np.floor(points / BLOCK).astype(np.int64).T + 1
        numbers = np.union1d(numbers, (x * base + y) * base + z)
    at_surface = np.stack([numbers // base**2, numbers // base % base, numbers % base], axis=1) - 1
    around = np.array(list(product((-1, 0, 1), repeat=3)))
    return np.unique((at_surface[:, None] + around).reshape(-1, 3), axis=0).astype(np.int32)


def _text(point: Float[np.ndarray, "3"]) -> str:
    return np.array2string(point, precision=2)
