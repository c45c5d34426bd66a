# SPDX-License-Identifier: Apache-2.0
"""Fuses many pictures with depth into one surface: the zero level of a truncated signed distance, averaged over the
pictures.

Follows Curless and Levoy (1996), in Open3D's sparse blocks of voxels. Every picture contributes to every block in
which any picture sees a surface. Free space in front of a surface counts too, so that floaters seen by few pictures
vanish. Of many pictures, only depths count that another one confirms, as in stereo
(`img3d_kernels.stereo.consistency`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32

from img3d_assets.depth_edges import is_continuous
from img3d_assets.meshing.inliers import inlier_bounds
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_assets.splat_editing.selection import Point
from img3d_base.errors import InputError
from img3d_kernels.poses import point_of_attention
from img3d_kernels.stereo.consistency import count_agreeing
from img3d_kernels.stereo.source_views import choose_sources
from img3d_kernels.stereo.views import StereoView

BLOCK = 8
"""Voxels along the edge of a block, and the truncation distance in voxels on both sides of a surface. Measured: half
of this distance lets noise through, twice as much thickens thin parts."""
MIN_PICTURES, MIN_SHARE = 2, 0.1
"""Number of pictures that must have seen a voxel of the surface; of few pictures, a share. Measured on splats of a
still life: what only one of 60 pictures sees is mostly wrong (benchmarks/RESULTS.md)."""
NEIGHBOURS = 8
"""Number of overlapping pictures, one of which must confirm a depth if a surface needs more than one picture."""
OVERLAP_POINTS = 3_000
"""Approximate number of points, in all, that tell which pictures overlap."""
PIXELS_PER_BLOCK = 2
"""Stride in pixels with which a picture determines the blocks that are needed."""
FREE = 1e6
"""Depth in voxels that stands for infinity."""
SAMPLES = 20_000
"""Approximate number of points per picture that determine the region."""
OUTLIERS = 0.005
"""Fraction of points at either end of each axis that may be outliers."""
MARGIN = 0.03
"""Margin around the surfaces, relative to the longest side: otherwise the outermost would lie on the border."""


@dataclass(frozen=True)
class Region:
    """The box that is meshed."""

    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]

    @property
    def size(self) -> float:
        """Length of the longest side."""
        return float((self.high - self.low).max())


def region_of(views: Sequence[SurfaceView], crop_min: Point | None, crop_max: Point | None) -> Region:
    """The region to mesh: the given bounds and, where none are given, the extent of the surfaces.

    If cameras look inward, at an object, only points that are no farther from what they look at than the cameras
    count, not the background. Outliers are ignored.

    Args:
        views: Pictures with depth.
        crop_min: The lowest corner, if given.
        crop_max: The highest corner, if given.

    Raises:
        InputError: The cameras see no surface, or none in that box.
    """
    points = _points_in_view(views, [surface_depth(view) for view in views], SAMPLES)
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
    first, last = inlier_bounds(near, OUTLIERS)
    first, last = np.maximum(first, near.min(axis=0)), np.minimum(last, near.max(axis=0))
    margin = MARGIN * (last - first).max()
    low, high = np.where(np.isfinite(low), low, first - margin), np.where(np.isfinite(high), high, last + margin)
    return Region(low, high)


def fused(
    views: Sequence[SurfaceView], extent: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "N 3"], Int[np.ndarray, "F 3"]]:
    """The surface in the box from the origin to `extent`, with lengths in voxels.

    Args:
        views: Pictures with depth.
        extent: The upper corner of the box. The surface is cut there, with an accuracy of a voxel.

    Returns:
        Vertices; faces, counter-clockwise as seen from outside.

    Raises:
        InputError: There is no surface.
    """
    import open3d as o3d

    pictures_needed = max(1.0, min(MIN_PICTURES, MIN_SHARE * len(views)))
    depths = [surface_depth(view) for view in views]
    if pictures_needed > 1:
        depths = _confirmed(views, depths)
    nowhere = "The pictures do not agree on any surface there: they may show little, or too many things."
    blocks = _blocks_at_surfaces(views, depths, extent)
    if len(blocks) == 0:
        raise InputError(nowhere)
    device, f32 = o3d.core.Device("CPU:0"), o3d.core.float32
    grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight"), (f32, f32), ((1), (1)), 1.0, BLOCK, len(blocks), device)
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
    try:
        mesh = grid.extract_triangle_mesh(pictures_needed)
    except RuntimeError as error:  # Open3D makes no mesh without vertices
        raise InputError(nowhere) from error
    if mesh.is_empty():
        raise InputError(nowhere)
    vertices, faces = mesh.vertex.positions.numpy().astype(np.float64), mesh.triangle.indices.numpy().astype(np.int64)
    outside = ((vertices < 0) | (vertices > extent)).any(axis=1)
    return vertices, faces[~outside[faces].any(axis=1)]


def surface_depth(view: SurfaceView) -> Float32[np.ndarray, "H W"]:
    """The depth of a picture, set to unknown (0) at depth discontinuities, where rendered depth lies between two
    surfaces."""
    with np.errstate(invalid="ignore"):
        kept = is_continuous(view.depth) | np.isinf(view.depth)
    return np.where(kept, view.depth, np.float32(0))


def _confirmed(
    views: Sequence[SurfaceView], depths: Sequence[Float32[np.ndarray, "_ _"]]
) -> list[Float32[np.ndarray, "_ _"]]:
    """Depths that another picture confirms, and free space; others become unknown (0)."""
    shown = [torch.from_numpy(np.where(np.isfinite(view.depth), view.depth, np.float32(0))) for view in views]
    cameras = [
        StereoView(
            torch.zeros(depth.shape, dtype=torch.uint8), torch.from_numpy(view.K), torch.from_numpy(view.viewmat)
        )
        for view, depth in zip(views, shown, strict=True)
    ]
    points = torch.from_numpy(_points_in_view(views, depths, max(1, OVERLAP_POINTS // len(views))))
    confirmed = []
    for i, sources in enumerate(choose_sources(cameras, points, NEIGHBOURS)):
        others, their_depths = [cameras[j] for j in sources], [shown[j] for j in sources]
        agreeing = count_agreeing(cameras[i], shown[i], others, their_depths)[0].numpy()
        confirmed.append(np.where((agreeing > 0) | np.isinf(depths[i]), depths[i], np.float32(0)))
    return confirmed


def _points_in_view(
    views: Sequence[SurfaceView], depths: Sequence[Float32[np.ndarray, "_ _"]], samples: int
) -> Float[np.ndarray, "M 3"]:
    """About `samples` points of each picture."""
    parts = []
    for view, depth in zip(views, depths, strict=True):
        stride = max(1, round((depth.size / samples) ** 0.5))
        parts.append(_points(view, depth, stride))
    return np.concatenate(parts)


def _points(view: SurfaceView, depth: Float[np.ndarray, "H W"], stride: int) -> Float[np.ndarray, "M 3"]:
    """World coordinates of the pixels with finite depth on a grid with this stride."""
    depth = depth[stride // 2 :: stride, stride // 2 :: stride]
    rows, columns = np.nonzero((depth > 0) & np.isfinite(depth))
    first = stride // 2 + 0.5
    pixels = np.stack([columns, rows, np.zeros_like(rows)], axis=1) * stride + [first, first, 1.0]
    in_camera = pixels @ np.linalg.inv(view.K).T * depth[rows, columns, None]
    return (in_camera - view.viewmat[:3, 3]) @ view.viewmat[:3, :3]


def _within_cameras(points: Float[np.ndarray, "M 3"], views: Sequence[SurfaceView]) -> Bool[np.ndarray, "M"]:
    """Which points are no farther from what the cameras look at than the cameras; all, if cameras look outward."""
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
    """Coordinates of the blocks that contain a surface and of their neighbours; lengths in voxels."""
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
