# SPDX-License-Identifier: Apache-2.0
"""Colour spaces of files: glTF and USD store linear values, all of img3d's colours are sRGB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def linear_of_srgb(colors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Linear values of sRGB colours in [0, 1] (IEC 61966-2-1); colours outside are clipped."""
    colors = colors.clip(0, 1)
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
