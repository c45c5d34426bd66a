# SPDX-License-Identifier: Apache-2.0
"""Colour values: linear ones, which glTF and USD store (all of img3d's are sRGB), and an object's own on white."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor


def linear_of_srgb(colors: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    """Linear values of sRGB colours in [0, 1] (IEC 61966-2-1); colours outside are clipped."""
    colors = colors.clip(0, 1)
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def srgb_of_linear(colors: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    """sRGB of linear colours in [0, 1] (IEC 61966-2-1); colours outside are clipped."""
    colors = colors.clip(0, 1)
    return np.where(colors <= 0.0031308, colors * 12.92, 1.055 * np.maximum(colors, 0.0031308) ** (1 / 2.4) - 0.055)


def without_white(on_white: Float[Tensor, "*V 3 S S"], alpha: Float[Tensor, "*V 1 S S"]) -> Float[Tensor, "*V 3 S S"]:
    """The object's own colours in pictures on white that it covers in part."""
    return ((on_white - (1 - alpha)) / alpha.clamp(min=1 / 255)).clamp(0, 1)
