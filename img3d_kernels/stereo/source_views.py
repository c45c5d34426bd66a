# SPDX-License-Identifier: Apache-2.0
"""Which pictures a picture is compared with, and how far away what it shows may be: both from sparse points.

As in COLMAP (Schönberger et al. 2016) and MVSNet (Yao et al. 2018, section 4.1): a source is the better, the more
points it shares, seen at an angle that is wide enough to tell depth and narrow enough to look alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from img3d_kernels.stereo.views import StereoView

BEST_ANGLE = 12.0
"""Degrees between the rays of two pictures to a point."""
NARROWER, WIDER = 5.0, 15.0
"""Standard deviations of what an angle below and above counts."""
MAX_TURN = 80.0
"""Degrees between two cameras' axes: beyond, they see different sides."""
OUTLIERS = 0.01
"""Share of points at either end of the depths that may be wrong."""
ROOM = 1.3
"""Factor by which depths are looked for beyond those of points at either end."""
MIN_POINTS = 8
"""Fewer say too little about what two pictures share, or about depths."""


def points_in_view(view: StereoView, points: Float[Tensor, "P 3"]) -> tuple[Bool[Tensor, "P"], Float[Tensor, "P"]]:
    """Which points lie in front of a camera and within its picture and mask, and their depths."""
    viewmat = view.viewmat.to(points)
    in_camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depths = in_camera[:, 2]
    ahead = depths > 1e-9
    pixels = in_camera @ view.K.to(points).T
    pixels = pixels[:, :2] / torch.where(ahead, depths, 1.0)[:, None]
    height, width = view.size
    inside = ahead & (pixels >= 0).all(dim=1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    if view.mask is not None:
        column, row = torch.where(inside[:, None], pixels, 0).long().unbind(dim=1)
        inside &= view.mask[row, column]
    return inside, depths


def choose_sources(
    views: Sequence[StereoView],
    points: Float[Tensor, "P 3"],
    number: int,
    visible: Bool[Tensor, "C P"] | None = None,
) -> list[list[int]]:
    """For each view the others that it is best compared with, best first.

    Args:
        views: C of them.
        points: Sparse points of the scene, world coordinates.
        number: Of sources for each view, at most: fewer where fewer share points with it.
        visible: Which views see which points, where that is known; else all that lie in a view's picture and mask are
            taken to be seen in it.
    """
    count = len(views)
    points = points.double()
    if visible is None:
        visible = torch.stack([points_in_view(view, points)[0] for view in views])
    poses = torch.stack([torch.linalg.inv(view.viewmat.double()) for view in views])
    centers, axes = poses[:, :3, 3], poses[:, :3, 2]
    towards = torch.nn.functional.normalize(centers[:, None] - points, dim=-1)
    alike = axes @ axes.T > torch.cos(torch.deg2rad(torch.tensor(MAX_TURN)))
    scores = torch.zeros(count, count, dtype=torch.float64)
    for i in range(count):
        cosines = torch.einsum("pk,cpk->cp", towards[i], towards).clamp(-1, 1)
        off = torch.rad2deg(torch.acos(cosines)) - BEST_ANGLE
        suits = torch.exp(-((off / torch.where(off < 0, NARROWER, WIDER)) ** 2) / 2)
        shared = visible & visible[i]
        scores[i] = (suits * shared).sum(dim=1) * alike[i] * (shared.sum(dim=1) >= MIN_POINTS)
    scores.fill_diagonal_(0)
    best = scores.argsort(dim=1, descending=True, stable=True)
    return [[j for j in row[:number] if scores[i, j] > 0] for i, row in enumerate(best.tolist())]


def depth_range(
    view: StereoView, points: Float[Tensor, "P 3"], visible: Bool[Tensor, "P"] | None = None
) -> tuple[float, float] | None:
    """The nearest and the farthest depth to look for in a view; None where too few points tell.

    Args:
        view: The view.
        points: Sparse points of the scene, world coordinates.
        visible: Which of them it sees; by default those in its picture and mask.
    """
    inside, depths = points_in_view(view, points.double())
    depths = depths[inside if visible is None else inside & visible]
    if len(depths) < MIN_POINTS:
        return None
    low, high = torch.quantile(
        depths[torch.linspace(0, len(depths) - 1, min(len(depths), 100_000)).long()],
        depths.new_tensor([OUTLIERS, 1 - OUTLIERS]),
    ).tolist()
    return low / ROOM, high * ROOM
