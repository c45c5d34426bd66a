# SPDX-License-Identifier: Apache-2.0
"""Decoding the textures of mesh files."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from img3d_base.errors import InputError
from img3d_base.foreign_files import reason
from img3d_pictures.opening import DAMAGED, FORMATS, MAX_MEGAPIXELS, TOO_LARGE

TGA = "TGA"
"""Accepted besides the formats of photos: common in OBJ and FBX files for games."""


def decoded(contents: bytes, what: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes a picture, without its transparency.

    Args:
        contents: The contents of the picture's file.
        what: A description of the picture, for messages.

    Raises:
        InputError: It is not a picture, damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(contents), formats=(*FORMATS, TGA)) as image:
            if image.width * image.height > 1_000_000 * MAX_MEGAPIXELS:
                raise Image.DecompressionBombError
            return np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} is {TOO_LARGE}: make a smaller copy of it") from error
    except DAMAGED as error:
        raise InputError(f"{what} is damaged or not a picture: {reason(error)}") from error
