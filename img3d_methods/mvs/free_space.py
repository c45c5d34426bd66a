# SPDX-License-Identifier: Apache-2.0
"""Finds surface where none can be: photos see through it, as their depth maps show something behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from img3d_kernels.projection import in_picture
from img3d_kernels.stereo.views import DepthMap, StereoView

ON_SURFACE = 0.01
"""Maximum relative difference of depths at which a photo confirms the surface."""
BEHIND = 0.05
"""Minimum relative difference of depths at which a photo sees through the surface."""
MIN_PHOTOS = 2
"""Minimum number of photos that see through what is free."""


def seen_through(
    points: Float[np.ndarray, "N 3"], views: Sequence[StereoView], maps: Sequence[DepthMap]
) -> Bool[np.ndarray, "N"]:
    """Which points more photos see through than confirm.

    Args:
        points: World coordinates.
        views: The photos.
        maps: The depth map of each.
    """
    where = torch.from_numpy(np.asarray(points, np.float64))
    confirming = torch.zeros(len(points), dtype=torch.int32)
    passing = torch.zeros_like(confirming)
    for view, found in zip(views, maps, strict=True):
        height, width = view.size
        inside, pixels, in_camera = in_picture(where, view.K, view.viewmat, width, height)
        column, row = torch.where(inside[:, None], pixels, 0).long().unbind(dim=1)
        depth = found.depth[row, column]
        known = inside & (depth > 0)
        ratio = depth / torch.where(known, in_camera[:, 2], 1.0)
        confirming += known & ((ratio - 1).abs() <= ON_SURFACE)
        passing += known & (ratio >= 1 + BEHIND)
    return ((passing >= MIN_PHOTOS) & (passing > confirming)).numpy()
