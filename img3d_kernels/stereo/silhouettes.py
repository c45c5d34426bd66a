# SPDX-License-Identifier: Apache-2.0
"""The visual hull of an object (Laurentini 1994): all of space that every view shows as object. Where a surface has no
texture, silhouettes still tell where it is: it lies inside the hull, and touches it along every outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from img3d_kernels.projection import in_picture
from img3d_kernels.stereo.views import DepthMap, StereoView, rays

MIN_VIEWS = 6
"""Minimum number of silhouettes: fewer bound an object too loosely."""
MIN_SEEN = 3
"""Minimum number of views that see a point of the hull."""
MIN_COVERED = 0.97
"""Minimum share of the silhouettes that the hull has to fill; otherwise silhouettes contradict each other."""
CELLS = 160
"""Maximum number of cells along the longest side of the hull's grid; no more than pixels along a picture."""
NUM_RANDOM = 400_000
"""Number of random points that find the hull's extent."""
MARGIN = 0.03
"""Room around the hull, relative to its longest side."""
STEPS = 192
"""Number of points at which a ray is compared with the hull."""


@dataclass(frozen=True)
class VisualHull:
    """A signed field on a grid: positive inside, in pixels of the view whose outline is nearest."""

    values: Float32[Tensor, "X Y Z"]
    low: Float[Tensor, "3"]
    """World coordinates of the grid's first point."""
    high: Float[Tensor, "3"]
    """World coordinates of the grid's last point."""

    def at(self, points: Float[Tensor, "*B 3"]) -> Float32[Tensor, "*B"]:
        """The field at points, by trilinear interpolation; negative outside the grid."""
        inside = ((points - self.low) / (self.high - self.low) * 2 - 1).float()
        found = F.grid_sample(
            self.values[None, None], inside.reshape(1, 1, 1, -1, 3).flip(-1), padding_mode="border", align_corners=True
        ).reshape(points.shape[:-1])
        return torch.where((inside.abs() <= 1).all(dim=-1), found, -1.0)

    def seen_from(self, view: StereoView, nearest: float, farthest: float) -> DepthMap:
        """The hull's depth and normals in a view; unknown where it shows no hull, or outside its mask."""
        height, width = view.size
        wanted = torch.ones(view.size, dtype=torch.bool) if view.outline is None else view.outline
        if view.mask is not None:
            wanted = wanted & view.mask
        pose = torch.linalg.inv(view.viewmat.double())
        directions = rays(view.K, height, width)[wanted].double() @ pose[:3, :3].T
        depths = self._first_crossing(pose[:3, 3], pose[:3, 2], directions, nearest, farthest)
        points = pose[:3, 3] + depths[:, None] * directions
        step = float((self.high - self.low).max()) / max(self.values.shape)
        shifts = torch.eye(3, dtype=points.dtype) * step
        slopes = torch.stack([self.at(points + shift) - self.at(points - shift) for shift in shifts], dim=-1)
        normals = F.normalize(-slopes.double() @ view.viewmat[:3, :3].double().T, dim=-1).float()
        found = DepthMap.empty(height, width)
        known = (depths > 0) & (normals.norm(dim=-1) > 0.5)
        found.depth[wanted] = torch.where(known, depths, 0).float()
        found.normals[wanted] = torch.where(known[:, None], normals, 0)
        return found

    def _first_crossing(
        self,
        origin: Float[Tensor, "3"],
        axis: Float[Tensor, "3"],
        directions: Float[Tensor, "N 3"],
        nearest: float,
        farthest: float,
    ) -> Float[Tensor, "N"]:
        """The depth along a camera's axis at which each ray enters the hull; 0 if it does not."""
        corners = torch.cartesian_prod(*torch.stack([self.low, self.high], dim=1)) - origin
        reach = corners @ axis
        low, high = max(nearest, float(reach.min())), min(farthest, float(reach.max()))
        before = torch.full((len(directions),), low, dtype=directions.dtype)
        value = self.at(origin + before[:, None] * directions)
        found = torch.zeros_like(before)
        for depth in torch.linspace(low, high, STEPS).tolist()[1:]:
            open_rays = (found == 0).nonzero()[:, 0]
            now = self.at(origin + depth * directions[open_rays])
            entered = (now > 0) & (value[open_rays] <= 0)
            share = value[open_rays] / (value[open_rays] - now)
            crossing = before[open_rays] + share * (depth - before[open_rays])
            found[open_rays[entered]] = crossing[entered].to(found.dtype)
            before[open_rays], value[open_rays] = depth, now
        return found


def hull_maps(views: Sequence[StereoView], ranges: Sequence[tuple[float, float] | None]) -> list[DepthMap] | None:
    """Depth and normals of the visual hull in each view; None if it cannot be trusted: there are too few outlines, or
    they contradict each other, as those of wrong poses do.

    Args:
        views: The views.
        ranges: For each, the nearest and the farthest depth of the scene; None where it is unknown.
    """
    hull = visual_hull(views, ranges)
    if hull is None:
        return None
    maps = [
        DepthMap.empty(*view.size) if span is None else hull.seen_from(view, *span)
        for view, span in zip(views, ranges, strict=True)
    ]
    wanted = reached = 0
    for view, found in zip(views, maps, strict=True):
        if view.outline is not None:
            object_there = view.outline if view.mask is None else view.outline & view.mask
            wanted += int(object_there.sum())
            reached += int((object_there & (found.depth > 0)).sum())
    return maps if reached >= MIN_COVERED * wanted else None


def visual_hull(views: Sequence[StereoView], ranges: Sequence[tuple[float, float] | None]) -> VisualHull | None:
    """The hull of all views that have outlines; None if these are too few, or have nothing in common.

    Args:
        views: The views.
        ranges: For each, the nearest and the farthest depth of the scene; None where it is unknown.
    """
    used = [
        (view, view.outline, span)
        for view, span in zip(views, ranges, strict=True)
        if view.outline is not None and span is not None
    ]
    if len(used) < max(MIN_VIEWS, len(views) / 2):
        return None
    outlined, distances = [view for view, _, _ in used], [_signed_distance(outline) for _, outline, _ in used]
    points = torch.cat(
        [
            _random_points(view, outline, *span, NUM_RANDOM // len(used), i)
            for i, (view, outline, span) in enumerate(used)
        ]
    )
    points = points[_field(points, outlined, distances) > 0]
    if len(points) == 0:
        return None
    low, high = points.min(dim=0).values, points.max(dim=0).values
    room = MARGIN * (high - low).max().clamp_min(1e-9)
    low, high = low - room, high + room
    cell = (high - low).max() / min(CELLS, max(max(view.size) for view in outlined))
    counts = ((high - low) / cell).ceil().long() + 1
    high = low + (counts - 1) * cell
    axes = [low[k] + cell * torch.arange(int(counts[k]), dtype=torch.float64) for k in range(3)]
    field = _field(torch.cartesian_prod(*axes), outlined, distances)
    return VisualHull(field.reshape(*counts.tolist()), low, high)


def _signed_distance(outline: Bool[Tensor, "H W"]) -> Float32[Tensor, "H W"]:
    """Distance in pixels to the outline, positive inside."""
    inside = outline.numpy().astype(np.uint8)
    far = float(max(inside.shape))  # there may be no outside, or no inside, in the picture
    to_outside, to_inside = (
        np.minimum(cv2.distanceTransform(each, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), far)
        for each in (inside, 1 - inside)
    )
    return torch.from_numpy(np.where(inside, to_outside - 0.5, 0.5 - to_inside)).float()


def _random_points(
    view: StereoView, outline: Bool[Tensor, "H W"], nearest: float, farthest: float, number: int, seed: int
) -> Float[Tensor, "N 3"]:
    """Points along the rays through a silhouette."""
    generator = torch.Generator().manual_seed(seed)
    directions = rays(view.K, *view.size)[outline].double()
    if len(directions) == 0:
        return directions
    chosen = directions[torch.randint(0, len(directions), (number,), generator=generator)]
    depths = nearest + (farthest - nearest) * torch.rand(number, 1, generator=generator, dtype=torch.float64)
    pose = torch.linalg.inv(view.viewmat.double())
    return (chosen * depths) @ pose[:3, :3].T + pose[:3, 3]


def _field(
    points: Float[Tensor, "P 3"], views: Sequence[StereoView], distances: Sequence[Float32[Tensor, "_ _"]]
) -> Float32[Tensor, "P"]:
    """The least signed distance to an outline of the views that see a point; negative if fewer than `MIN_SEEN` do."""
    field = torch.full((len(points),), torch.inf)
    seen = torch.zeros(len(points), dtype=torch.int32)
    for view, distance in zip(views, distances, strict=True):
        height, width = view.size
        left = (field > -2).nonzero()[:, 0]  # well outside one silhouette is outside
        inside, pixels, _ = in_picture(points[left], view.K, view.viewmat, width, height)
        grid = (pixels / pixels.new_tensor([width, height]) * 2 - 1).float()
        value = F.grid_sample(
            distance[None, None], grid[None, None], mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0, 0]
        field[left] = torch.where(inside, torch.minimum(field[left], value), field[left])
        seen[left] += inside
    return torch.where((seen >= MIN_SEEN) | (field <= -2), field, -2.0).clamp(-2, 1e3)
