# SPDX-License-Identifier: Apache-2.0
"""Conversions of colour values: sRGB (img3d's) and linear (glTF's and USD's), and removing a white background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from img3d_pictures.encodings import linear_light, srgb_signal


def linear_of_srgb(colors: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    """Linear values of sRGB colours in [0, 1] (IEC 61966-2-1); colours outside are clipped."""
    return linear_light(colors.clip(0, 1), "srgb")


def srgb_of_linear(colors: Float[np.ndarray, "*S 3"]) -> Float[np.ndarray, "*S 3"]:
    """sRGB of linear colours in [0, 1] (IEC 61966-2-1); colours outside are clipped."""
    return srgb_signal(colors.clip(0, 1))


def without_white(on_white: Float[Tensor, "*V 3 S S"], alpha: Float[Tensor, "*V 1 S S"]) -> Float[Tensor, "*V 3 S S"]:
    """The object's colours, not premultiplied, in pictures that show it on white."""
    return ((on_white - (1 - alpha)) / alpha.clamp(min=1 / 255)).clamp(0, 1)
