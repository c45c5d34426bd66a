# SPDX-License-Identifier: Apache-2.0
"""Coordinates too far from the origin for single precision, as georeferenced ones are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

FINEST = 1e-5
"""What rounding may move a point by, as a share of the extent of all of them: a hundredth of a pixel of 1000."""


def needs_double_precision(points: Float[np.ndarray, "N 3"]) -> bool:
    """Whether single precision would blur the shape that points have."""
    if len(points) == 0:
        return False
    rounding = np.spacing(np.abs(points).max().astype(np.float32)) / 2
    extent = np.ptp(points, axis=0).max() or 1.0  # one place has no extent: a unit of its coordinates
    return bool(rounding > FINEST * extent)


def nearby_origin(points: Float[np.ndarray, "N 3"]) -> tuple[float, float, float]:
    """Whole numbers in the middle of points that need double precision, to count from instead; else zeros."""
    if not needs_double_precision(points):
        return (0.0, 0.0, 0.0)
    x, y, z = np.round((points.min(axis=0) + points.max(axis=0)) / 2).tolist()
    return (x, y, z)
