# SPDX-License-Identifier: Apache-2.0
"""Pictures as they are sent to services: upright sRGB pixels without metadata."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from img3d_base.errors import InputError
from img3d_pictures.reading import read_upright

MAX_SIDE = 2048
"""Longest side of a picture that is sent, which all services take; larger ones are reduced."""
MIN_SIDE = 64
"""Shortest side of a picture that services can use."""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """A picture that is sent, without its file's name, place, date or camera."""

    path: Path
    """The file on this machine; its name is not sent."""
    content: bytes
    """A PNG or JPEG file."""
    media_type: str
    width: int
    height: int

    @property
    def ending(self) -> str:
        """The ending of a file with this content: png or jpg."""
        return "png" if self.media_type == "image/png" else "jpg"

    @property
    def data_uri(self) -> str:
        """The content as a data URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()

    def named(self, name: str) -> tuple[str, bytes, str]:
        """The picture as a file in a form: name, content and media type."""
        return f"{name}.{self.ending}", self.content, self.media_type


def read_picture(path: Path) -> Picture:
    """Reads a picture, and encodes its upright pixels anew: as a PNG if it has transparency, else as a JPEG.

    Raises:
        InputError: It cannot be read, or is too small.
    """
    pixels = read_upright(path, MAX_SIDE)
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{path} is only {width} x {height} pixels; services take at least {MIN_SIDE}")
    transparent = pixels.shape[2] == 4 and bool(pixels[..., 3].min() < 255)
    buffer = io.BytesIO()
    if transparent:
        Image.fromarray(pixels).save(buffer, "PNG")
    else:
        Image.fromarray(pixels[..., :3].copy()).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return Picture(path, buffer.getvalue(), "image/png" if transparent else "image/jpeg", width, height)
