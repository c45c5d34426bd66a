# SPDX-License-Identifier: Apache-2.0
"""Photos and masks as files: whether they are whole, which way up they are, and reading them at a given size."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from img3d_base.errors import InputError
from img3d_dataparsers.file_resolver import is_file
from img3d_dataparsers.threaded import in_threads

Size = tuple[int, int]
"""Width and height in pixels."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif")
EXIF_ORIENTATION = 0x0112
Transpose = Image.Transpose
UPRIGHT = {
    2: (Transpose.FLIP_LEFT_RIGHT, Transpose.FLIP_LEFT_RIGHT),
    3: (Transpose.ROTATE_180, Transpose.ROTATE_180),
    4: (Transpose.FLIP_TOP_BOTTOM, Transpose.FLIP_TOP_BOTTOM),
    5: (Transpose.TRANSPOSE, Transpose.TRANSPOSE),
    6: (Transpose.ROTATE_270, Transpose.ROTATE_90),
    7: (Transpose.TRANSVERSE, Transpose.TRANSVERSE),
    8: (Transpose.ROTATE_90, Transpose.ROTATE_270),
}
"""What makes a photo with each EXIF orientation upright, and what undoes that."""
SWAPPED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""
READ_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises on files that are missing, damaged, forbidden or not pictures."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def _is_heif(prefix: bytes) -> bool:
    return prefix[4:8] == b"ftyp" and prefix[8:12] in HEIF_BRANDS


def _open_heif(stream: IO[bytes], name: str | bytes) -> ImageFile.ImageFile:
    """Opens iPhones' .heic, which Pillow does not read by itself.

    Imports the package only where there is such a photo: this module belongs to the entry points.

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


Image.register_open("HEIF", _open_heif, _is_heif)


def check_photos(paths: Sequence[Path]) -> list[Size | None]:
    """Looks at every photo once, in threads, with a progress bar.

    Args:
        paths: the files to look at; each must be there and readable to count as whole.

    Returns:
        For each file its stored width and height, or None if it is truncated, damaged or not a picture.
    """
    return in_threads(_size_if_whole, paths, "Checking photos")


def _size_if_whole(path: Path) -> Size | None:
    if not is_file(path):  # a pipe would be waited for, and a device never ends
        return None
    try:
        with Image.open(path) as image:
            size = image.size
            if image.format == "PNG":
                image.verify()  # checksums, without decompressing
            else:
                image.draft("RGB", (size[0] // 8, size[1] // 8))  # JPEG: read all, but reconstruct at 1/8
                image.load()
    except READ_ERRORS:
        return None
    return size if min(size) > 0 else None


def is_turned(path: Path, stored: Size, width: float, height: float) -> bool:
    """Whether a camera of `width` x `height` sees this photo only after its EXIF orientation is applied.

    Nerfstudio and older COLMAP ignore the orientation tag, other tools apply it; the shape of the camera tells
    which of the two the poses were made with.
    """
    if abs(np.log(stored[0] * height / (stored[1] * width))) <= abs(np.log(stored[1] * height / (stored[0] * width))):
        return False
    with Image.open(path) as image:
        return exif_turn(image) is not None


def exif_turn(image: Image.Image) -> Image.Transpose | None:
    """What undoes an EXIF orientation that swaps width and height; None if there is none."""
    value = orientation(image)
    return UPRIGHT[value][0] if value in SWAPPED else None


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a photo; 1, upright, where there is none."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except (*READ_ERRORS, struct.error):  # tags are often damaged where the photo is not
        return 1
    return value if value in UPRIGHT else 1


def read_upright(
    path: Path, longest_side: int, alpha_color: tuple[float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """Reads a photo as people see it, its EXIF orientation applied.

    Args:
        path: the file.
        longest_side: larger photos are reduced to that many pixels; large JPEGs are not even decoded in full.
        alpha_color: the colour behind transparent pixels in [0, 1], or None to keep the alpha channel.

    Returns:
        As `read_photo`.
    """
    with Image.open(path) as image:
        size, turn = image.size, UPRIGHT.get(orientation(image))
    scale = min(1.0, longest_side / max(size))
    pixels = read_photo(path, max(1, round(scale * size[0])), max(1, round(scale * size[1])), alpha_color)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn[0]))


def read_photo(
    path: Path, width: int, height: int, alpha_color: tuple[float, float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """Reads a photo at `width` x `height`; every pixel is the mean of the area that it covers in the file.

    Args:
        path: the file.
        width: width of the result.
        height: height of the result.
        alpha_color: the colour behind transparent pixels in [0, 1], or None to keep the alpha channel.

    Returns:
        uint8 sRGB `[height, width, 3]`, or `[height, width, 4]` if there is alpha to keep (not premultiplied).
    """
    with Image.open(path) as image:
        turned = is_turned(path, image.size, width, height)
        transpose = exif_turn(image) if turned else None
        target = (height, width) if turned else (width, height)
        _decode_reduced(image, target)
        drawn = _to_rgb_or_rgba(image)
    if drawn.mode == "RGBA" and alpha_color is not None:
        backdrop = Image.new("RGBA", drawn.size, tuple(round(255 * channel) for channel in alpha_color))
        drawn = Image.alpha_composite(backdrop, drawn).convert("RGB")
    pixels = np.array(drawn if transpose is None else drawn.transpose(transpose), dtype=np.uint8)
    return resize(pixels, width, height)


def resize(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Area averages of a picture `[H, W, 3 or 4]`; transparent pixels do not colour their neighbours.

    Pillow's own BOX counts each source pixel in or out, which dislocates edges by up to half a source pixel.
    """
    if image.shape[:2] == (height, width):
        return image
    if image.shape[2] == 3:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    rgb, alpha = image[..., :3].astype(np.float32), image[..., 3:].astype(np.float32)
    premultiplied = np.concatenate([rgb * alpha, alpha], axis=-1)
    averaged = np.asarray(cv2.resize(premultiplied, (width, height), interpolation=cv2.INTER_AREA))
    rgb = averaged[..., :3] / np.maximum(averaged[..., 3:], 1e-6)
    return np.round(np.concatenate([rgb, averaged[..., 3:]], axis=-1)).clip(0, 255).astype(np.uint8)


def stored_size(path: Path) -> Size:
    """Width and height of a photo's pixels in its file, without decoding it."""
    with Image.open(path) as image:
        return image.size


def _decode_reduced(image: Image.Image, target: Size) -> None:
    """Has a JPEG decoded at 1/8 to 1/2 of its size, several times faster, if at least 2x2 pixels remain to average.

    Only where the reduced size is a whole number: libjpeg rounds it up, which would shift the far edges.
    """
    for reduction in (8, 4, 2):
        if all(
            size % reduction == 0 and size >= 2 * reduction * to for size, to in zip(image.size, target, strict=True)
        ):
            image.draft("RGB", (image.size[0] // reduction, image.size[1] // reduction))
            return


def _to_rgb_or_rgba(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits per pixel, which Pillow would clip
        return Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    has_alpha = "A" in image.getbands() or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def read_mask(path: Path, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Reads a mask at `width` x `height`, nearest pixel; True where the photo is to be used (white).

    Values above half of the brightest count as white, so that 0/1 and 0/255 masks, and JPEG's ringing, are all right.

    Returns:
        `[height, width]`.
    """
    with Image.open(path) as image:
        turned = is_turned(path, image.size, width, height)
        transpose = exif_turn(image) if turned else None
        grey = image if image.mode.startswith("I") else image.convert("L")
        grey = grey.resize((height, width) if turned else (width, height), Image.Resampling.NEAREST)
        values = np.asarray(grey.transpose(transpose) if transpose is not None else grey)
    return values > values.max() / 2
