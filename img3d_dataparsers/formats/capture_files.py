# SPDX-License-Identifier: Apache-2.0
"""Helpers of the readers of capture formats: photos in a folder, JSON files, rows of numbers, points of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from img3d_base.errors import InputError
from img3d_base.foreign_files import read_json
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_pictures.file_resolver import Kind, listing
from img3d_pictures.opening import IMAGE_SUFFIXES

ARKIT_TO_Z_UP = np.array([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
"""From ARKit's gravity-aligned world (y up) to one with z up, as in Nerfstudio's Polycam converter."""
ARKIT_SCALE = "the phone's own tracking (ARKit)"
"""`PosedPhotos.scale_source` of captures with ARKit."""
CAMERA_FILES, DEPTH_MAPS = Kind("camera files", (".json",)), Kind("depth maps", (".png",))
"""Files that capture apps write beside each photo."""
MAX_SCAN_POINTS = 50_000
"""Largest number of seed points from a scan, which has millions (splatfacto starts from as many random ones)."""


def photos_in(folder: Path) -> list[Path]:
    """The photos directly in a folder, sorted by name; none if the folder does not exist."""
    names = [name for names in listing(folder).files.values() for name in names]
    return sorted(
        folder / name
        for name in names
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    )


def load_json(path: Path) -> dict[str, Any]:
    """Loads a JSON file that holds one object.

    Raises:
        InputError: It is missing, cannot be read, is not JSON, or is not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} does not hold a JSON object; export the capture again")
    return value


def may_hold(path: Path, key: str) -> bool:
    """Whether a file with a common name may be of the format that has `key`: all but valid JSON without it.

    A damaged file counts, so that its reader reports it instead of its poses being ignored.
    """
    try:
        return key in load_json(path)
    except InputError:
        return path.is_file()


def finite_numbers(value: Any, count: int, what: str, path: Path) -> FloatArray:
    """Converts `value` to an array `[count]` of finite numbers.

    Args:
        value: The untrusted value from the file.
        count: The required number of numbers.
        what: A description of the value, for the message.
        path: The file, for the message.

    Raises:
        InputError: It is something else.
    """
    try:
        given = np.asarray(value)
        numbers = given.astype(np.float64) if given.dtype.kind in "iuf" else np.empty(0)
    except ValueError:  # lists of several lengths
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise InputError(f"{path}: {what} must be {count} numbers; export the capture again")
    return numbers


def require_cameras(photos: Sequence[Path], cameras: Sequence[Path]) -> None:
    """Checks that every photo has its camera file.

    Args:
        photos: The photos.
        cameras: The camera file of each photo; it need not exist.

    Raises:
        InputError: A camera file is missing.
    """
    for photo, camera in zip(photos, cameras, strict=True):
        if not camera.is_file():
            raise InputError(f"the photo {photo} has no camera: there is no {camera}; restore it, or remove the photo")


def thinned(points: SeedPoints) -> SeedPoints:
    """A reproducible random choice of at most `MAX_SCAN_POINTS` points."""
    xyz, rgb = points
    if len(xyz) <= MAX_SCAN_POINTS:
        return points
    chosen = np.sort(np.random.default_rng(0).choice(len(xyz), MAX_SCAN_POINTS, replace=False))
    return xyz[chosen], rgb[chosen]
