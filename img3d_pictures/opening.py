# SPDX-License-Identifier: Apache-2.0
"""Opening picture files that may be damaged, huge or of another kind; every failure is an error of one line.

Only photo formats are tried, whatever a file's name: others of Pillow's would run programs (Ghostscript for EPS).
"""

from __future__ import annotations

import logging
import os
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from img3d_base.errors import InputError
from img3d_base.foreign_files import LFS_POINTER, NOT_FETCHED, open_regular, require_regular
from img3d_base.text_links import followed

MAX_MEGAPIXELS = 250
"""Largest picture: phones take 200 megapixels. Decoded it takes 1 GB, and a file of a few kilobytes may claim more."""
LARGE_MEGAPIXELS = 50
"""Larger pictures are decoded one at a time, whatever the number of threads: they take 4 bytes per pixel."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".exr")
"""Suffixes of picture files, in lower case."""
OTHER_PICTURES = frozenset(
    {
        ".arw",
        ".cr2",
        ".cr3",
        ".dng",
        ".gif",
        ".jp2",
        ".jxl",
        ".nef",
        ".orf",
        ".pef",
        ".psd",
        ".raf",
        ".raw",
        ".rw2",
        ".tga",
    }
)
"""Suffixes of pictures that are not read, in lower case: cameras' raw formats, and less common ones."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "HEIF", "AVIF", "EXR")
"""Pillow's names of the formats that are read."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
DAMAGED = (
    *(OSError, SyntaxError, ValueError, MemoryError),
    *(EOFError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ZeroDivisionError, struct.error),
)
"""Exceptions that Pillow raises on damaged files."""
DAMAGED_EXIF = (OSError, SyntaxError, TypeError, ValueError, struct.error)
"""Exceptions that Pillow raises on damaged EXIF tags, which are common in photos that are otherwise whole."""
UNREADABLE = "damaged or cannot be read"
TOO_LARGE = f"larger than {MAX_MEGAPIXELS} megapixels"

Image.MAX_IMAGE_PIXELS = 1_000_000 * MAX_MEGAPIXELS
# Pillow's warnings and log messages do not name the file; those that matter are raised as errors here.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

_one_at_a_time = Lock()


class PictureError(InputError):
    """A file that cannot be used as a picture."""

    def __init__(self, path: Path, reason: str, details: str) -> None:
        super().__init__(f"{path} is {reason}{details}")
        self.reason = reason
        """`UNREADABLE`, `TOO_LARGE` or `NOT_FETCHED`; continues a sentence after "is" or "are"."""


@contextmanager
def open_picture(path: Path) -> Generator[Image.Image, None, None]:
    """Opens a picture without decoding it. Errors of Pillow inside the context are turned into PictureErrors.

    Raises:
        PictureError: It is not a picture, damaged, or larger than `MAX_MEGAPIXELS`.
        InputError: It is not a regular file, or a package that its format needs is not installed.
    """
    path = require_regular(followed(path))
    register_formats()
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > 1_000_000 * MAX_MEGAPIXELS:
                raise Image.DecompressionBombError
            if image.mode == "F":
                raise ValueError("its values are floating point; save it with 8 or 16 bits")
            if isinstance(image, TiffImagePlugin.TiffImageFile) and _has_wide_planes(image):
                raise ValueError("its channels of more than 8 bits are in separate planes; save it with 8 bits")
            yield image
    except Image.DecompressionBombError:
        raise PictureError(path, TOO_LARGE, "; make a smaller copy of it") from None
    except UnidentifiedImageError:
        with open_regular(path) as file:
            is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
        if is_pointer:
            raise PictureError(path, NOT_FETCHED, "") from None
        raise PictureError(path, UNREADABLE, f": it is not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}") from None
    except DAMAGED as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise PictureError(path, UNREADABLE, f": {reason.splitlines()[0]}") from error


def _has_wide_planes(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether a TIFF's channels are stored one after the other with more than 8 bits, which Pillow decodes wrongly."""
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    return image.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and len(bits) > 1 and max(bits) > 8


@contextmanager
def decoding(image: Image.Image) -> Generator[None, None, None]:
    """Wraps the decoding of a picture's pixels, so that only one large picture is decoded at a time."""
    if image.width * image.height <= 1_000_000 * LARGE_MEGAPIXELS:
        yield
        return
    with _one_at_a_time:
        yield


@cache
def register_formats() -> None:
    """Registers the formats that Pillow does not read by itself."""
    from img3d_pictures.exr import register_exr

    register_exr()
    Image.register_open("HEIF", _open_heif, _is_heif)


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS


def _open_heif(stream: IO[bytes], name: str | bytes) -> ImageFile.ImageFile:
    """Opens HEIF photos, such as iPhones' .heic. pillow-heif is imported only if there is one.

    Raises:
        InputError: pillow-heif is missing or broken.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError(
            f"{os.fsdecode(name)} is a HEIF photo, and the package pillow-heif that reads these cannot be imported "
            f"({error}); run `pip install --force-reinstall pillow-heif`, or save the photo as JPEG"
        ) from error
    return HeifImageFile(stream, name)
