# SPDX-License-Identifier: Apache-2.0
"""Chooses the source views that a view is compared with, and its range of depths, from sparse points.

As in COLMAP (Schönberger et al. 2016) and MVSNet (Yao et al. 2018, section 4.1), a source scores higher the more points
it shares with the view, at angles that are wide enough to determine depth and narrow enough to look alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from img3d_kernels.projection import in_picture
from img3d_kernels.stereo.views import StereoView

BEST_ANGLE = 12.0
"""Best angle in degrees between the rays of two views to a point."""
NARROWER, WIDER = 5.0, 15.0
"""Standard deviations in degrees of the score of an angle, below and above the best one."""
MAX_TURN = 80.0
"""Maximum angle in degrees between the optical axes of a view and a source; beyond it they show different sides."""
OUTLIERS = 0.01
"""Fraction of the points at either end of the range of depths that are ignored as outliers."""
ROOM = 1.3
"""Factor by which the search range extends beyond the points' depths at each end."""
BEHIND = 8.0
"""The factor at the far end of a view with a background: few photos see what is far behind the subject, so that it has
few points. Inverse depth is searched, of which the background takes little."""
MIN_POINTS = 8
"""Minimum number of points from which overlap or a range of depths is estimated."""


def points_in_view(view: StereoView, points: Float[Tensor, "P 3"]) -> tuple[Bool[Tensor, "P"], Float[Tensor, "P"]]:
    """Which points lie in front of a camera and inside its picture and mask, and their depths."""
    height, width = view.size
    inside, pixels, in_camera = in_picture(points, view.K, view.viewmat, width, height)
    if view.mask is not None:
        column, row = torch.where(inside[:, None], pixels, 0).long().unbind(dim=1)
        inside &= view.mask[row, column]
    return inside, in_camera[:, 2]


def choose_sources(
    views: Sequence[StereoView],
    points: Float[Tensor, "P 3"],
    number: int,
    visible: Bool[Tensor, "C P"] | None = None,
) -> list[list[int]]:
    """Chooses the sources of each view, best first.

    Args:
        views: The C views.
        points: Sparse points of the scene, world coordinates.
        number: Maximum number of sources of a view; it has fewer if fewer share points with it.
        visible: Which views see which points. None: a view sees all points inside its picture and mask.
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
    view: StereoView,
    points: Float[Tensor, "P 3"],
    visible: Bool[Tensor, "P"] | None = None,
    *,
    with_background: bool = False,
) -> tuple[float, float] | None:
    """The nearest and the farthest depth to search in a view; None if it has too few points.

    Args:
        view: The view.
        points: Sparse points of the scene, world coordinates.
        visible: Which of them the view sees. None: all points inside its picture and mask.
        with_background: Search far behind the points too, unless the view has an outline: there is nothing behind it.
    """
    inside, depths = points_in_view(view, points.double())
    depths = depths[inside if visible is None else inside & visible]
    if len(depths) < MIN_POINTS:
        return None
    low, high = torch.quantile(
        depths[torch.linspace(0, len(depths) - 1, min(len(depths), 100_000)).long()],
        depths.new_tensor([OUTLIERS, 1 - OUTLIERS]),
    ).tolist()
    return low / ROOM, high * (BEHIND if with_background and view.outline is None else ROOM)
