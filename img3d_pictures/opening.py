# SPDX-License-Identifier: Apache-2.0
"""Opening picture files that may be damaged, huge or something else: every trouble is one line.

Only formats of photos are tried, whatever a file's name: others of Pillow's would run programs (Ghostscript for EPS).
"""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

from img3d_base.errors import InputError
from img3d_base.foreign_files import require_regular
from img3d_base.text_links import followed

MAX_MEGAPIXELS = 250
"""Of a picture: phones have 200. Decoded it takes a gigabyte; a file of a few kilobytes may claim hundreds."""
LARGE_MEGAPIXELS = 50
"""Beyond which pictures are decoded one at a time, whatever the number of threads: they take 4 bytes a pixel."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".exr")
"""File name endings, in lower case, that are taken for a picture."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF", "AVIF", "EXR")
"""Pillow's names of the formats that are read."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
DAMAGED = (
    *(OSError, SyntaxError, ValueError, MemoryError),
    *(EOFError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ZeroDivisionError, struct.error),
)
"""What Pillow raises on files that are damaged; its readers of headers are not strict about it."""
UNREADABLE = "damaged or cannot be read"
TOO_LARGE = f"larger than {MAX_MEGAPIXELS} megapixels"

Image.MAX_IMAGE_PIXELS = 1_000_000 * MAX_MEGAPIXELS
# What Pillow warns of and logs names lines of its own, not the file; what matters of it is an error of one line here.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_one_at_a_time = Lock()


class PictureError(InputError):
    """A file that cannot be used as a picture."""

    def __init__(self, path: Path, reason: str, details: str) -> None:
        super().__init__(f"{path} is {reason}{details}")
        self.reason = reason
        """`UNREADABLE` or `TOO_LARGE`: to follow "is" or "are"."""


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """An open picture, nothing decoded yet; whatever fails inside on account of the file is an InputError.

    Raises:
        PictureError: It is no picture, damaged, or larger than `MAX_MEGAPIXELS`.
        InputError: It is no regular file, or what reads it is not installed.
    """
    path = require_regular(followed(path))
    _register_formats()
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > 1_000_000 * MAX_MEGAPIXELS:
                raise Image.DecompressionBombError
            if image.mode == "F":
                raise ValueError("its values are floating point; save it with 8 or 16 bits")
            yield image
    except Image.DecompressionBombError:
        raise PictureError(path, TOO_LARGE, "; make a smaller copy of it") from None
    except UnidentifiedImageError:
        raise PictureError(path, UNREADABLE, f": it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise PictureError(path, UNREADABLE, f": {reason.splitlines()[0]}") from error


@contextmanager
def decoding(image: Image.Image) -> Iterator[None]:
    """Goes around whatever decodes a picture's pixels: one large picture at a time."""
    if image.width * image.height <= 1_000_000 * LARGE_MEGAPIXELS:
        yield
        return
    with _one_at_a_time:
        yield


@cache
def _register_formats() -> None:
    """Formats that Pillow does not read by itself."""
    from img3d_pictures.exr import register_exr

    register_exr()
    Image.register_open("HEIF", _open_heif, _is_heif)


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS


def _open_heif(stream: IO[bytes], name: str | bytes) -> ImageFile.ImageFile:
    """Opens iPhones' .heic; its package is imported only where there is such a photo.

    Raises:
        InputError: pillow-heif is missing or broken.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError(
            f"{os.fsdecode(name)} is a HEIF photo, which needs the package pillow-heif, and that cannot be imported "
            f"({error}); run `pip install --force-reinstall pillow-heif`, or save the photo as JPEG"
        ) from error
    return HeifImageFile(stream, name)
