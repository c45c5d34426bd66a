# SPDX-License-Identifier: Apache-2.0
"""Finding the image circle of a fisheye, outside which its photos are black."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from img3d_base.threaded import in_threads
from img3d_dataparsers.lenses.lens import OPENCV_FISHEYE, THIN_PRISM_FISHEYE, Lens
from img3d_dataparsers.usable_photos import UsablePhoto
from img3d_pictures.reading import read_photo

MAX_SIDE = 320
"""Maximum longer side in pixels of the reduced photos in which the circle is searched."""
MAX_PHOTOS = 8
"""Maximum number of photos of a lens that are read."""
MAX_DARK = 24
"""Maximum value of a pixel outside the circle, which is not quite black because of JPEG and stray light."""
MIN_BRIGHT = 0.2
"""Minimum fraction of brighter pixels at a distance from the centre that is inside the circle."""
MARGIN = 0.02
"""Fraction of the radius that is left out at the rim, where the light falls off."""


def with_image_circles(photos: Sequence[UsablePhoto]) -> list[Lens | None]:
    """The lens of each photo (`Intrinsics.lens`), with its image circle if it is a fisheye.

    Raises:
        InputError: A photo cannot be read.
    """
    lenses = [photo.intrinsics.lens for photo in photos]
    by_lens: dict[Lens, list[UsablePhoto]] = {}
    for photo, lens in zip(photos, lenses, strict=True):
        if lens is not None and lens.model in (OPENCV_FISHEYE, THIN_PRISM_FISHEYE):
            by_lens.setdefault(lens, []).append(photo)
    found: dict[Lens, Lens] = {}
    for lens, of_lens in by_lens.items():
        count = min(len(of_lens), MAX_PHOTOS)
        chosen: list[int] = np.linspace(0, len(of_lens) - 1, count).round().astype(int).tolist()
        found[lens] = replace(lens, circle=image_circle(lens, [of_lens[i] for i in chosen]))
    return [None if lens is None else found.get(lens, lens) for lens in lenses]


def image_circle(lens: Lens, photos: Sequence[UsablePhoto]) -> float:
    """The radius in pixels of the circle around the principal point outside which all photos are dark.

    Args:
        lens: The lens.
        photos: Photos taken with it, which are read at a reduced size.

    Returns:
        The radius, less `MARGIN`; infinite if the photos are bright up to their corners.

    Raises:
        InputError: A photo cannot be read.
    """
    scale = min(1.0, MAX_SIDE / max(lens.width, lens.height))
    width, height = round(scale * lens.width), round(scale * lens.height)
    x, y = np.meshgrid((np.arange(width) + 0.5) / scale, (np.arange(height) + 0.5) / scale)
    ring = (scale * np.hypot(x - lens.principal_point[0], y - lens.principal_point[1])).astype(int)
    num_pixels = np.maximum(np.bincount(ring.ravel()), 1)
    bright = np.zeros(len(num_pixels))
    pictures = in_threads(
        lambda photo: read_photo(photo.image_path, width, height, upright=photo.upright), photos, "Looking for rims"
    )
    for picture in pictures:
        is_bright = picture[..., :3].max(axis=2) > MAX_DARK
        bright = np.maximum(bright, np.bincount(ring.ravel(), weights=is_bright.ravel()) / num_pixels)
    inside = np.flatnonzero(bright >= MIN_BRIGHT)
    if len(inside) == 0 or inside[-1] >= (1 - MARGIN) * (len(bright) - 1):
        return np.inf
    return (1 - MARGIN) * (inside[-1] + 1) / scale
