# SPDX-License-Identifier: Apache-2.0
"""Ordering points so that neighbours in the list are neighbours in space, which makes positions compress well."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

CORE = 0.05
"""Share of the points at either end of each axis that lie in contracted space."""


def morton_order(means: Float[np.ndarray, "N 3"]) -> Int64[np.ndarray, "N"]:
    """Indices that sort points along a Z-order (Morton) curve.

    Space outside the box that contains nearly all points is contracted to twice that box, as in Mip-NeRF 360, so that
    cells remain small where the points are, however far away the outermost are.
    """
    low, high = np.quantile(means.astype(np.float64), [CORE, 1 - CORE], axis=0)
    scaled = (means - (low + high) / 2) / np.maximum((high - low) / 2, 1e-30)
    beyond = np.maximum(np.abs(scaled), 1)
    contracted = np.where(beyond > 1, np.sign(scaled) * (2 - 1 / beyond), scaled)  # within (-2, 2)
    cells = ((contracted + 2) / 4 * (2**21 - 1)).astype(np.uint64)
    # Spread the 21 bits of a coordinate to every third of 63.
    for shift, mask in ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
                        (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249)):  # fmt: skip
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    return np.argsort(cells[:, 0] | (cells[:, 1] << np.uint64(1)) | (cells[:, 2] << np.uint64(2)), kind="stable")
