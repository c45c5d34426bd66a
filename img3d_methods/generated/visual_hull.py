# SPDX-License-Identifier: Apache-2.0
"""Points inside the visual hull of an object: the part of space that all its posed pictures show as object
(Laurentini 1994)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_generators.posed_views import PosedViews
from img3d_kernels.poses import intrinsics, viewmats
from img3d_kernels.projection import in_picture

NEARLY_WHITE = 0.97
"""If pictures have no alpha, pixels darker than this in any channel belong to the object."""
NUM_TRIES = 400_000
"""Number of random points that are tried."""


def points_in_hull(views: PosedViews, num_points: int, seed: int = 0) -> Float[Tensor, "N 3"]:
    """At most `num_points` points, evenly distributed, in the views' world; none if no point is in all silhouettes.

    Args:
        views: Views of an object at the origin, at which all cameras look.
        num_points: The number of points wanted.
        seed: Random seed.
    """
    inside = views.alphas > 0.5 if views.alphas is not None else (views.images < NEARLY_WHITE).any(dim=1, keepdim=True)
    size = views.images.shape[-1]
    # The largest ball that is completely in view of every camera.
    distance = views.camera_to_worlds[:, :, 3].norm(dim=1).min()
    radius = distance * torch.sin(torch.deg2rad(torch.tensor(views.fov / 2)))
    generator = torch.Generator().manual_seed(seed)
    points = (2 * torch.rand(NUM_TRIES, 3, generator=generator) - 1) * radius
    points = points[points.norm(dim=1) < radius]
    K = intrinsics(views.fov, size)
    for viewmat, silhouette in zip(viewmats(views.camera_to_worlds), inside[:, 0], strict=True):
        in_view, pixels, _ = in_picture(points, K, viewmat, size, size)
        points, (column, row) = points[in_view], pixels[in_view].long().T
        points = points[silhouette[row, column]]
    return points[:num_points]
