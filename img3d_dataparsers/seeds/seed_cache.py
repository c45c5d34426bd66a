# SPDX-License-Identifier: Apache-2.0
"""Caching of seed points, in a file beside the photos or in the user's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_base.atomic_files import save_arrays
from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import load_npz
from img3d_base.text_links import followed
from img3d_dataparsers.posed_photos import SeedPoints
from img3d_dataparsers.usable_photos import UsablePhoto

MAX_BYTES = 1 << 29
"""Largest array in a cache file: a thousand times that of an ordinary data set."""


def fingerprint(folder: Path, photos: Sequence[UsablePhoto], recipe: str) -> str:
    """A hash of photos and masks (by file size and time, without reading them), their cameras, and the recipe.

    Args:
        folder: The folder that paths are taken relative to, so that a data set may be moved.
        photos: The photos, in order.
        recipe: Identifies how points are made.
    """
    digest = hashlib.sha256(recipe.encode())
    for photo in photos:
        files = [path for path in (photo.image_path, photo.mask_path) if path is not None]
        stats = [followed(path).stat() for path in files]
        said = [(os.path.relpath(path, folder), s.st_size, s.st_mtime_ns) for path, s in zip(files, stats, strict=True)]
        digest.update(repr((said, photo.intrinsics, photo.camera_to_world.tolist())).encode())
    return digest.hexdigest()[:16]


def kept_points(places: Sequence[Path], key: str, make: Callable[[], SeedPoints]) -> SeedPoints:
    """Returns the points cached under `key`, or makes and caches them.

    Args:
        places: Folders for the cache file; it is written to the first that is writable.
        key: A hash of everything that the points depend on; part of the file's name.
        make: Makes the points.
    """
    name = f"seed_points-{key}.npz"
    paths = [place / name for place in places]
    for path in paths:
        if path.is_file():
            try:
                points = _read(path)
            except InputError as error:
                warn(f"{error}; the seed points are made again")
                continue
            print_line(f"Seed points: {len(points[0]):,} from the cache {path}")
            return points
    points = make()
    kept_in = keep(places, name, "the seed points", xyz=points[0], rgb=points[1])
    if kept_in is not None:
        print_line(f"Seed points: {len(points[0]):,}, kept in {kept_in}")
    return points


def keep(places: Sequence[Path], name: str, what: str, **arrays: npt.ArrayLike) -> Path | None:
    """Writes arrays to a file in the first of these folders that can be written to; a warning says that none can.

    Args:
        places: The folders.
        name: The file's name.
        what: What the arrays are, for the warning.

    Returns:
        The file, None if it could not be written.
    """
    for place in places:
        try:
            save_arrays(place / name, **arrays)
        except OSError:
            continue
        return place / name
    warn(f"{what} could not be kept in {' or '.join(map(str, places))}: read-only or full")
    return None


def _read(path: Path) -> SeedPoints:
    arrays = load_npz(path, ("xyz", "rgb"), MAX_BYTES)
    xyz, rgb = arrays["xyz"], arrays["rgb"]
    kinds, shape = (xyz.dtype, rgb.dtype), (len(rgb) if rgb.ndim else 0, 3)
    if kinds != (np.float64, np.uint8) or xyz.shape != shape or rgb.shape != shape or not np.isfinite(xyz).all():
        raise InputError(f"{path} does not hold points and colours")
    return xyz, rgb
