# SPDX-License-Identifier: Apache-2.0
"""Detecting coordinates that are too far from the origin for float32, such as georeferenced ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

FINEST = 1e-5
"""Largest acceptable rounding error as a share of the points' extent: a hundredth of a pixel in an image of 1000."""


def needs_double_precision(points: Float[np.ndarray, "N 3"]) -> bool:
    """Whether float32 would blur the shape of these points."""
    if len(points) == 0:
        return False
    rounding = np.spacing(np.abs(points).max().astype(np.float32)) / 2
    extent = np.ptp(points, axis=0).max() or 1.0  # a single position has no extent: use one unit
    return bool(rounding > FINEST * extent)


def nearby_origin(points: Float[np.ndarray, "N 3"]) -> tuple[float, float, float]:
    """An integer origin in the middle of points that need double precision, to store them relative to; else zeros."""
    if not needs_double_precision(points):
        return (0.0, 0.0, 0.0)
    x, y, z = np.round((points.min(axis=0) + points.max(axis=0)) / 2).tolist()
    return (x, y, z)
