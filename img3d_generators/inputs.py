# SPDX-License-Identifier: Apache-2.0
"""The input of a generator: an image's object, framed as its network was trained."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_generators.image_preparation import cut_out, prepared_image
from img3d_generators.pairing import input_of
from img3d_generators.registry import Generator


def prepared_input(generator: Generator, path: Path) -> Float[Tensor, "4 S S"]:
    """Reads an image and prepares it for a generator: RGBA in [0, 1], straight alpha.

    Args:
        generator: A row that takes an image.
        path: The image file.

    Raises:
        InputError: The file is not an image, is too small, or shows nothing.
    """
    if not generator.frame:
        return prepared_image(path, input_of(generator).border_ratio)
    pixels = generator.imported(generator.frame)(cut_out(path), path)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
