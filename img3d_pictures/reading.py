# SPDX-License-Identifier: Apache-2.0
"""Reading photos and masks at a given size, in sRGB, and checking that they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from img3d_base.threaded import in_threads
from img3d_pictures.colour_profiles import IccConversion, conversion_to_srgb
from img3d_pictures.file_resolver import is_file
from img3d_pictures.opening import LARGE_MEGAPIXELS, UNREADABLE, PictureError, decoding, open_picture
from img3d_pictures.orientation import (
    SWAPPED,
    SWAPPING,
    UPRIGHT,
    Size,
    orientation,
    shows_a_quarter_turn,
    stored_size,
    transpose_of,
)

STRIP_ROWS = 256
"""Rows of a large picture that are averaged at a time."""

Pixels = npt.NDArray[np.uint8]
Color = tuple[float, float, float]


def check_photos(paths: Sequence[Path]) -> list[Size | str]:
    """Checks every photo for damage, in threads, with a progress bar.

    Args:
        paths: The files; one that does not exist counts as unreadable.

    Returns:
        For each file its stored width and height, or the reason why it cannot be used, which continues a sentence
        after "is" or "are".

    Raises:
        InputError: A photo needs a package that is not installed.
    """
    return in_threads(_size_if_whole, paths, "Checking photos")


def _size_if_whole(path: Path) -> Size | str:
    if not is_file(path):
        return UNREADABLE
    try:
        with open_picture(path) as image:
            size = stored_size(image)
            if image.format == "PNG":
                image.verify()  # tests the checksums without decompressing
            else:
                image.draft("RGB", (image.width // 8, image.height // 8))  # JPEG: reads everything, decodes at 1/8
                with decoding(image):
                    image.load()
    except PictureError as error:
        return error.reason
    return size if min(size) > 0 else UNREADABLE


def is_turned(path: Path, width: float, height: float, upright: bool = False) -> bool:
    """Whether a camera of `width` x `height` sees this photo with its stored width and height swapped.

    Args:
        path: The file.
        width: The camera's width.
        height: The camera's height.
        upright: As for `read_photo`.

    Raises:
        InputError: It cannot be read.
    """
    with open_picture(path) as image:
        return orientation(image) in SWAPPED and (upright or shows_a_quarter_turn(image, width, height))


def stored_size_of(path: Path) -> Size:
    """Width and height of a photo's pixels in its file, without decoding it.

    Raises:
        InputError: It cannot be read.
    """
    with open_picture(path) as image:
        return stored_size(image)


def read_upright(path: Path, longest_side: int, alpha_color: Color | None = None) -> Pixels:
    """Reads a photo upright, with its EXIF orientation applied.

    Args:
        path: The file.
        longest_side: Larger photos are reduced to this many pixels; large JPEGs are not even decoded in full.
        alpha_color: The colour behind transparent pixels in [0, 1], or None to keep the alpha channel.

    Returns:
        As `read_photo`.

    Raises:
        InputError: It cannot be read.
    """
    with open_picture(path) as image:
        width, height = stored_size(image)
        if orientation(image) in SWAPPED:
            width, height = height, width
    scale = min(1.0, longest_side / max(width, height))
    return read_photo(path, max(1, round(scale * width)), max(1, round(scale * height)), alpha_color, upright=True)


def read_photo(path: Path, width: int, height: int, alpha_color: Color | None = None, upright: bool = False) -> Pixels:
    """Reads a photo at `width` x `height`; every pixel is the mean of the area that it covers in the file.

    Args:
        path: The file.
        width: Width of the result.
        height: Height of the result.
        alpha_color: The colour behind transparent pixels in [0, 1], or None to keep the alpha channel.
        upright: Whether to apply the EXIF orientation in any case. Otherwise the pixels come as they are stored, unless
            the shape `width` x `height` shows a quarter turn.

    Returns:
        uint8 sRGB `[height, width, 3]`, or `[height, width, 4]` if alpha is kept (not premultiplied). Colour profiles
        are applied.

    Raises:
        InputError: It cannot be read.
    """
    with open_picture(path) as image:
        transpose = transpose_of(image, upright or shows_a_quarter_turn(image, width, height))
        target = (height, width) if transpose in SWAPPING else (width, height)
        conversion = conversion_to_srgb(image)
        _decode_reduced(image, target)
        with decoding(image):
            image.load()
            is_cmyk = isinstance(conversion, IccConversion) and conversion.mode == "CMYK"
            has_alpha = not is_cmyk and image.has_transparency_data
            pixels = _averaged(image, "CMYK" if is_cmyk else "RGBA" if has_alpha else "RGB", target)
    if conversion is not None:
        rgb = conversion.to_srgb(pixels[..., :4] if is_cmyk else np.ascontiguousarray(pixels[..., :3]))
        pixels = np.concatenate([rgb, pixels[..., 3:]], axis=2) if has_alpha else rgb
    if has_alpha and alpha_color is not None:
        alpha = pixels[..., 3:] / np.float32(255)
        behind = 255 * np.array(alpha_color, dtype=np.float32)
        pixels = np.round(pixels[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)
    return transposed(pixels, transpose)


def _averaged(image: Image.Image, mode: str, target: Size) -> Pixels:
    """Area averages of a picture in one of Pillow's modes. Large pictures are converted in strips to save memory."""
    width, height = target
    is_large = image.width * image.height > 1_000_000 * LARGE_MEGAPIXELS
    if not is_large or width > image.width or height > image.height:
        return resize(_channels(image, mode), width, height, has_alpha=mode == "RGBA")
    strips = []
    for top in range(0, image.height, STRIP_ROWS):
        strip = image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height)))
        values = _premultiplied(_channels(strip, mode), mode == "RGBA")
        strips.append(_area(values, width, len(values)))
    return _not_premultiplied(_area(np.concatenate(strips), width, height), mode == "RGBA")


def _channels(image: Image.Image, mode: str) -> Pixels:
    """`[H, W, 3 or 4]`."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8 instead of scaling
        grey = (np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.array(Image.fromarray(grey).convert(mode))
    return np.array(image if image.mode == mode else image.convert(mode))


def resize(image: Pixels, width: int, height: int, has_alpha: bool | None = None) -> Pixels:
    """Resizes a picture `[H, W, 3 or 4]` by area averages; the colour of transparent pixels does not bleed.

    Pillow's BOX filter takes or leaves whole source pixels, which shifts edges by up to half a source pixel.

    Args:
        image: The picture.
        width: Width of the result.
        height: Height of the result.
        has_alpha: Whether the last channel is alpha; None: it is if there are four.
    """
    if image.shape[:2] == (height, width):
        return image
    if has_alpha is False or image.shape[2] == 3:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return _not_premultiplied(_area(_premultiplied(image, True), width, height), True)


def _area(values: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _premultiplied(pixels: Pixels, has_alpha: bool) -> npt.NDArray[np.float32]:
    values = pixels.astype(np.float32)
    if has_alpha:
        values[..., :3] *= values[..., 3:]
    return values


def _not_premultiplied(values: npt.NDArray[np.float32], has_alpha: bool) -> Pixels:
    if has_alpha:
        values[..., :3] /= np.maximum(values[..., 3:], 1e-6)
    return np.round(values).clip(0, 255).astype(np.uint8)


def _decode_reduced(image: Image.Image, target: Size) -> None:
    """Sets a JPEG up to be decoded at 1/8 to 1/2 of its size, several times faster, if at least 2x2 pixels remain to
    average.

    Only if the reduced size is an integer: libjpeg rounds it up, which would shift the right and bottom edges.
    """
    for reduction in (8, 4, 2):
        if all(
            size % reduction == 0 and size >= 2 * reduction * to for size, to in zip(image.size, target, strict=True)
        ):
            image.draft(None, (image.size[0] // reduction, image.size[1] // reduction))
            return


def transposed(pixels: Pixels, transpose: Image.Transpose | None) -> Pixels:
    """A picture `[H, W, C]` turned or mirrored."""
    return pixels if transpose is None else np.array(Image.fromarray(pixels).transpose(transpose))


def _mask_values(image: Image.Image) -> Image.Image:
    """A mask as a grey picture: its alpha where that is the mask, else its brightness."""
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if np.asarray(alpha).min() < 255:
            return alpha
    return image.convert("L")


def read_mask(
    path: Path, width: int, height: int, upright: bool = False, photo: Path | None = None
) -> npt.NDArray[np.bool_]:
    """Reads a mask at `width` x `height` by nearest pixel; True where the photo is used (white).

    Values above half of the maximum count as white, so that 0/1 and 0/255 masks and JPEG's ringing are read correctly.
    Of a picture with transparency, such as a cut-out, the alpha channel is the mask.

    Args:
        path: The file.
        width: The camera's width.
        height: The camera's height.
        upright: Whether the photo is read upright: then the mask's own EXIF orientation, if any, is applied.
        photo: The photo, whose EXIF orientation is applied to a mask without one that has the camera's shape only so:
            one of the stored pixels for a camera of the upright ones, or the other way round.

    Returns:
        `[height, width]`.

    Raises:
        InputError: It cannot be read.
    """
    with open_picture(path) as image:
        applies = upright or shows_a_quarter_turn(image, width, height)
        transpose = transpose_of(image, applies)
        if photo is not None and orientation(image) == 1 and (image.width - image.height) * (width - height) < 0:
            with open_picture(photo) as turned:
                to_upright, to_stored = UPRIGHT.get(orientation(turned), (None, None))
                transpose = to_upright if upright or shows_a_quarter_turn(turned, width, height) else to_stored
        with decoding(image):
            grey = image if image.mode.startswith("I") else _mask_values(image)
            size = (height, width) if transpose in SWAPPING else (width, height)
            grey = grey.resize(size, Image.Resampling.NEAREST)
        values = np.asarray(grey.transpose(transpose) if transpose is not None else grey)
    return values > values.max() / 2
