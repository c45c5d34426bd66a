# SPDX-License-Identifier: Apache-2.0
"""Whether a photo without a known camera is a 360° panorama, a fisheye, or an ordinary perspective photo."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import ExifTags, Image

from img3d_pictures.opening import decoding
from img3d_pictures.orientation import Size

PhotoLens = Literal["perspective", "fisheye", "equirectangular"]
CameraType = Literal["auto", "perspective", "fisheye", "equirectangular"]
"""What the user says about all photos; "auto": each photo's tags and pixels decide."""
assert {"auto", *get_args(PhotoLens)} == set(get_args(CameraType))

ASPECT_TOLERANCE = 0.01
"""Largest relative difference of a panorama's width to twice its height."""
SMALL = (512, 256)
"""Size at which panoramas are recognised."""
SEAM = 3.0
"""Largest difference across a panorama's edges, relative to that between neighbouring columns."""
POLES = 0.35
"""Largest standard deviation of a panorama's first and last rows, relative to the median row: each shows one point."""
NOISE = 2.0
"""Difference of grey levels that JPEG makes by itself."""


def is_twice_as_wide(size: Size) -> bool:
    """Whether a picture has the shape of a whole panorama."""
    return abs(size[0] / (2 * size[1]) - 1) <= ASPECT_TOLERANCE


def lens_of_photo(image: Image.Image, size: Size, tags: dict[int, object], camera_type: CameraType) -> PhotoLens:
    """The lens of a photo, by what the user says, or by its tags and pixels.

    Args:
        image: The photo, which is decoded only if its shape is a panorama's.
        size: Width and height of the upright photo.
        tags: Its EXIF tags.
        camera_type: What the user says.

    Raises:
        PictureError: It is damaged.
    """
    if camera_type != "auto":
        return camera_type
    if is_twice_as_wide(size) and (_says_panorama(image) or _closes(image)):
        return "equirectangular"
    return "fisheye" if "fisheye" in str(tags.get(ExifTags.Base.LensModel, "")).lower() else "perspective"


def _says_panorama(image: Image.Image) -> bool:
    """Whether Google's photo sphere tags (GPano) in the XMP data call it equirectangular."""
    xmp = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
    text = xmp if isinstance(xmp, bytes) else str(xmp).encode()
    return b"GPano:ProjectionType" in text and b"equirectangular" in text


def _closes(image: Image.Image) -> bool:
    """Whether the left and right edges show the same, and the first and last rows one point each."""
    image.draft("RGB", SMALL)
    with decoding(image):
        image.load()
    grey = np.asarray(image.convert("L").resize(SMALL, Image.Resampling.BOX), dtype=np.float64)
    between = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    across = np.abs(grey[:, 0] - grey[:, -1]).mean()
    spread = grey.std(axis=1)
    is_closed = across <= SEAM * np.median(between) + NOISE
    return bool(is_closed and max(spread[0], spread[-1]) <= POLES * np.median(spread) + NOISE)
