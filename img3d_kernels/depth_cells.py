# SPDX-License-Identifier: Apache-2.0
"""Coarse depth maps of photos from points that are known on surfaces: the depth of the nearest points in each cell."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from img3d_kernels.projection import MIN_DEPTH, in_picture

CELLS = 48
"""Cells along a photo's longest side."""
MIN_POINTS = 3
"""Points, in a cell and those around it, from which its depth is known: that of the last of them, as the nearer ones
may be outliers."""


def in_cells(
    points: Float[Tensor, "P 3"],
    K: Float[Tensor, "3 3"],
    viewmat: Float[Tensor, "4 4"],
    width: int,
    height: int,
    margin: float = 0.0,
) -> tuple[Bool[Tensor, "P"], Bool[Tensor, "P"], Int64[Tensor, "P"], Float[Tensor, "P"]]:
    """Where points are in a photo.

    Args:
        points: World coordinates.
        K: Intrinsics of the photo, in pixels; pixel centres at +0.5.
        viewmat: World to camera, OpenCV axes.
        width: Of the photo, in pixels.
        height: Of the photo, in pixels.
        margin: How far beside the photo points count as near it, relative to its longest side.

    Returns:
        Which points are in the photo's view or near it; which are in it; the cells of these, row by row, for those
        beside the photo the nearest ones, and 0 for all others; and the depths of all.
    """
    inside, pixels, in_camera = in_picture(points, K, viewmat, width, height)
    x, y, depths = *pixels.unbind(dim=1), in_camera[:, 2]
    nearest_x, nearest_y = x.clamp(0, width - 0.5), y.clamp(0, height - 0.5)
    reach, scale = margin * max(width, height), CELLS / max(width, height)
    near = ((x - nearest_x).abs() <= reach) & ((y - nearest_y).abs() <= reach) & (depths > MIN_DEPTH) | inside
    cells = (nearest_y * scale).long() * CELLS + (nearest_x * scale).long()
    return near, inside, torch.where(near, cells, 0), depths  # cells of places that are not numbers are none


def nearest_depths(
    points: Float[Tensor, "P 3"], K: Float[Tensor, "3 3"], viewmat: Float[Tensor, "4 4"], width: int, height: int
) -> Float[Tensor, "h w"]:
    """The depth, along the camera's axis, of the nearest points in and around each cell, but for outliers; 0 where
    there are too few.

    Args:
        points: World coordinates.
        K: Intrinsics of the photo, in pixels; pixel centres at +0.5.
        viewmat: World to camera, OpenCV axes.
        width: Of the photo, in pixels.
        height: Of the photo, in pixels.

    Returns:
        `[CELLS, CELLS]`; a photo that is not square covers a part of it, from the first row and column on.
    """
    _, inside, cells, depths = in_cells(points, K, viewmat, width, height)
    cells, depths = cells[inside], depths[inside]
    order = torch.argsort(depths)
    order = order[torch.argsort(cells[order], stable=True)]
    depths, cells = depths[order], cells[order]
    counts = torch.bincount(cells, minlength=CELLS**2)
    ranks = torch.arange(len(cells)) - (counts.cumsum(dim=0) - counts)[cells]
    nearest = torch.full((CELLS**2, MIN_POINTS), math.inf, dtype=depths.dtype)
    first = ranks < MIN_POINTS
    nearest[cells[first], ranks[first]] = depths[first]
    padded = F.pad(nearest.view(CELLS, CELLS, MIN_POINTS), (0, 0, 1, 1, 1, 1), value=math.inf)
    around = padded.unfold(0, 3, 1).unfold(1, 3, 1).reshape(CELLS, CELLS, -1)
    depth = around.kthvalue(MIN_POINTS, dim=-1).values
    return torch.where(depth.isfinite(), depth, 0.0)
