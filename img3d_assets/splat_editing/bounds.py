# SPDX-License-Identifier: Apache-2.0
"""The box that holds most of a scene's Gaussians."""

from __future__ import annotations

import numpy as np

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.gaussians import Gaussians

Point = tuple[float, float, float]


def visible_bounds(splats: Gaussians, up: UpAxis, fraction: float) -> tuple[Point, Point] | None:
    """The lowest and highest corner of the box that holds a fraction of the visible Gaussians along each axis.

    Args:
        splats: The Gaussians.
        up: The axis that points up in their coordinates.
        fraction: Fraction of the centres between the corners along an axis, in (0, 1]; as many are below as above.

    Returns:
        The corners, in world coordinates turned so that y is up; None if no Gaussian is visible.
    """
    visible = splats.visible()
    if len(visible) == 0:
        return None
    centres = (visible.means.astype(np.float64) + visible.origin) @ TO_Y_UP[up].T
    outside = (1 - fraction) / 2
    (x0, y0, z0), (x1, y1, z1) = np.quantile(centres, (outside, 1 - outside), axis=0).tolist()
    return (x0, y0, z0), (x1, y1, z1)
