# SPDX-License-Identifier: Apache-2.0
"""The EXIF orientation of photos, and the transposes between upright and stored pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from img3d_pictures.opening import DAMAGED_EXIF

Size = tuple[int, int]
"""Width and height in pixels."""

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
"""For each EXIF orientation, the transpose that makes the stored pixels upright, and its inverse."""
SWAPPED = (5, 6, 7, 8)
"""The EXIF orientations that swap width and height."""
MIRRORED = (2, 4, 5, 7)
"""The EXIF orientations of photos that are stored mirrored."""
SWAPPING = (Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSPOSE, Transpose.TRANSVERSE)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a photo whose pixels have not been decoded yet; 1, upright, where there is none."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGED_EXIF:
        return 1
    return value if value in UPRIGHT else 1


def stored_size(image: Image.Image) -> Size:
    """Width and height of a photo's pixels as they are stored."""
    width, height = image.size
    return (height, width) if _is_turned_by_pillow(image) and orientation(image) in SWAPPED else (width, height)


def transpose_of(image: Image.Image, upright: bool) -> Image.Transpose | None:
    """The transpose that turns Pillow's decoded pixels upright or, if not `upright`, into the stored orientation."""
    to_upright, to_stored = UPRIGHT.get(orientation(image), (None, None))
    if _is_turned_by_pillow(image):
        return None if upright else to_stored
    return to_upright if upright else None


def _is_turned_by_pillow(image: Image.Image) -> bool:
    return image.format == "TIFF"  # Pillow applies the tag of TIFFs, to size and pixels


def shape_difference(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How much two pictures' ratios of width and height differ: the absolute natural logarithm of their quotient."""
    return abs(float(np.log((one[0] / one[1]) / (other[0] / other[1]))))


def shows_a_quarter_turn(image: Image.Image, width: float, height: float) -> bool:
    """Whether the camera's shape `width` x `height` fits the photo only with its EXIF orientation applied.

    Nerfstudio and older COLMAP ignore the orientation tag, other tools apply it; the shape of the camera tells which
    of the two produced the poses.
    """
    stored = stored_size(image)
    as_stored, as_turned = stored[0] * height / (stored[1] * width), stored[1] * height / (stored[0] * width)
    return bool(abs(np.log(as_stored)) > abs(np.log(as_turned))) and orientation(image) in SWAPPED
