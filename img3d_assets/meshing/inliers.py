# SPDX-License-Identifier: Apache-2.0
"""The extent of a surface's points without outliers, which would make the whole surface coarser."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

REACH = 0.1
"""Extension of the box on each side, relative to its longest side: points that near the others are no outliers."""


def inlier_bounds(
    points: Float[np.ndarray, "N 3"], outliers: float
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Lower and upper corner of the box of the inliers, extended by `REACH`.

    Args:
        points: At least one point.
        outliers: Fraction of the points at either end of each axis that may be outliers.
    """
    low, high = np.quantile(points, [outliers, 1 - outliers], axis=0)
    reach = REACH * (high - low).max()
    return low - reach, high + reach
