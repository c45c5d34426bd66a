# SPDX-License-Identifier: Apache-2.0
"""Textures that a foreign mesh file holds or names."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from img3d_base.errors import InputError
from img3d_base.foreign_files import reason
from img3d_pictures.opening import DAMAGED, FORMATS, MAX_MEGAPIXELS

TGA = "TGA"
"""Beside the formats of photos: what OBJ and FBX files of games have."""


def decoded(contents: bytes, what: str) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an encoded picture, without its transparency.

    Args:
        contents: Of the picture's file.
        what: What it is, for messages.

    Raises:
        InputError: It is no picture, damaged or too large.
    """
    try:
        with Image.open(io.BytesIO(contents), formats=(*FORMATS, TGA)) as image:
            if image.width * image.height > 1_000_000 * MAX_MEGAPIXELS:
                raise InputError(f"{what} is larger than {MAX_MEGAPIXELS} megapixels: make a smaller copy of it")
            return np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise InputError(f"{what} is larger than {MAX_MEGAPIXELS} megapixels: make a smaller copy of it") from error
    except DAMAGED as error:
        raise InputError(f"{what} is damaged or no picture: {reason(error)}") from error
