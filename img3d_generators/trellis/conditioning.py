# SPDX-License-Identifier: Apache-2.0
"""Prepares TRELLIS's input: frames the image exactly as in training, to the last bit, and makes the tokens that
condition the flows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.image_preparation import MIN_SIDE, RGBA
from img3d_generators.networks.dinov2 import Dinov2
from img3d_generators.trellis.transformer import normed
from img3d_generators.triposr.preparation import blended

SIZE = 518
"""Height and width in pixels of the network's input."""
OPAQUE = 0.8 * 255
"""Pixels with a higher alpha belong to the object."""
MARGIN = 1.2
"""Side of the square around the object, in multiples of the object's longer side."""
TOKENS_EPS = 1e-5
"""Epsilon of the tokens' layer normalisation."""
BLACK = 0.0
"""The background that the network was trained with."""


def framed(pixels: RGBA, name: Path, size: int = SIZE) -> RGBA:
    """Centres the object in a square.

    Args:
        pixels: The image, with alpha.
        name: The image's name, for messages.
        size: Height and width of the square in pixels.

    Raises:
        InputError: Nothing, or almost nothing, is opaque.
    """
    is_object = pixels[..., 3] > OPAQUE
    if not is_object.any():
        raise InputError(f"{name} shows nothing: nothing in it is opaque, or no object was found in it")
    bounds = [np.flatnonzero(is_object.any(axis=axis))[[0, -1]] for axis in (0, 1)]
    extent = max(int(last - first) for first, last in bounds)
    if extent < MIN_SIDE:
        raise InputError(f"the object in {name} has only {extent + 1} pixels; give a larger picture of it")
    half = int(extent * MARGIN) // 2
    middle = [(int(first) + int(last)) / 2 for first, last in bounds]
    box = (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)
    square = Image.fromarray(pixels).crop(box)  # pyright: ignore[reportArgumentType]  # Pillow rounds it
    return np.array(square.resize((size, size), Image.Resampling.LANCZOS))


def on_black(image: Float[Tensor, "4 S S"]) -> Float[Tensor, "3 S S"]:
    """Blends an RGBA image of 8 bits per channel, in [0, 1], with black; the result has 8 bits again, truncated."""
    return blended(image, BLACK)


def condition_of(network: Dinov2, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T D"]:
    """DINOv2's normalised tokens of images on black, in [0, 1]."""
    return normed(network(images), TOKENS_EPS)
