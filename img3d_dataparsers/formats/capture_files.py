# SPDX-License-Identifier: Apache-2.0
"""What the readers of capture formats share: the photos in a folder, a JSON file, a row of numbers, a scan's points."""

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
"""From ARKit's gravity-aligned world (y up) to one with z up, as Nerfstudio's Polycam converter does it."""
ARKIT_SCALE = "the phone's own tracking (ARKit)"
"""What makes a unit of its world a metre, for the user."""
CAMERA_FILES, DEPTH_MAPS = Kind("camera files", (".json",)), Kind("depth maps", (".png",))
"""What capture apps write beside each photo."""
MAX_SCAN_POINTS = 50_000
"""A scan has millions of points; as seeds, so many suffice (splatfacto starts from as many random ones)."""


def photos_in(folder: Path) -> list[Path]:
    """The photos directly in a folder, sorted by name; none if there is no such folder."""
    names = [name for names in listing(folder).files.values() for name in names]
    return sorted(
        folder / name
        for name in names
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
    )


def load_json(path: Path) -> dict[str, Any]:
    """Loads a JSON file that holds one object.

    Raises:
        InputError: it is missing, cannot be read, is not JSON or is something else than an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; export the capture again")
    return value


def may_hold(path: Path, key: str) -> bool:
    """Whether a file of a common name is what its reader looks for: anything but sound JSON without `key`.

    A damaged file counts, so that its reader says so, instead of its poses being passed over.
    """
    try:
        return key in load_json(path)
    except InputError:
        return path.is_file()


def finite_numbers(value: Any, count: int, what: str, path: Path) -> FloatArray:
    """`value` as `[count]` finite numbers.

    Args:
        value: whatever the file has there.
        count: how many numbers it must be.
        what: what to call it in the message.
        path: the file that it comes from, for the message.

    Raises:
        InputError: it is something else.
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
    """Checks that every photo has the file with its camera.

    Args:
        photos: the photos.
        cameras: the camera file of each, in the same order; need not exist.

    Raises:
        InputError: one is missing.
    """
    for photo, camera in zip(photos, cameras, strict=True):
        if not camera.is_file():
            raise InputError(f"the photo {photo} has no camera: there is no {camera}; restore it, or remove the photo")


def thinned(points: SeedPoints) -> SeedPoints:
    """At most `MAX_SCAN_POINTS` of the points, chosen at random, but always the same ones."""
    xyz, rgb = points
    if len(xyz) <= MAX_SCAN_POINTS:
        return points
    chosen = np.sort(np.random.default_rng(0).choice(len(xyz), MAX_SCAN_POINTS, replace=False))
    return xyz[chosen], rgb[chosen]
