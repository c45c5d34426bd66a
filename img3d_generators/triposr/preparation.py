# SPDX-License-Identifier: Apache-2.0
"""TripoSR's framing of its input, reproduced to the last bit: the object's box is padded, never resampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.image_preparation import MIN_SIDE, RGBA

OBJECT_SHARE = 0.85
"""Fraction of the picture's width that the longer side of the object takes."""
GREY = 0.5
"""The background that the network was trained with."""


def framed(pixels: RGBA, name: Path, object_share: float = OBJECT_SHARE) -> RGBA:
    """Centres the object in a square.

    Every pixel that is not fully transparent belongs to the object. The last row and the last column of its box are
    cut off, as in the published preparation.

    Args:
        pixels: The image, with alpha.
        name: The image's name, for messages.
        object_share: Fraction of the square's width that the object takes.

    Raises:
        InputError: Nothing, or almost nothing, is visible.
    """
    is_object = pixels[..., 3] > 0
    if not is_object.any():
        raise InputError(f"{name} shows nothing: all of it is transparent, or no object was found in it")
    rows, columns = (np.flatnonzero(is_object.any(axis=axis)) for axis in (1, 0))
    box = pixels[rows[0] : rows[-1], columns[0] : columns[-1]]
    longest = max(box.shape[:2])
    if longest < MIN_SIDE:
        raise InputError(f"the object in {name} has only {longest} pixels; give a larger picture of it")
    return padded(padded(box, longest), int(longest / object_share))


def padded(pixels: RGBA, size: int) -> RGBA:
    """Pads an image with transparent black to a square; where the margin is odd, the larger half comes last."""
    square = np.zeros((size, size, 4), np.uint8)
    height, width = pixels.shape[:2]
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def on_grey(image: Float[Tensor, "4 S S"]) -> Float[Tensor, "3 S S"]:
    """`blended` with the grey that the network was trained with."""
    return blended(image, GREY)


def blended(image: Float[Tensor, "4 S S"], background: float) -> Float[Tensor, "3 S S"]:
    """Blends an RGBA image of 8 bits per channel, in [0, 1], with a grey value; the result has 8 bits again, truncated.

    Args:
        image: Straight alpha.
        background: In [0, 1].
    """
    rgb, alpha = image[:3].float(), image[3:].float()
    mixed = rgb * alpha + (1 - alpha) * background
    return (mixed * 255).to(torch.uint8).float() / 255
