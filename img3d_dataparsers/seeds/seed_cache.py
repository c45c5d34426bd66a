# SPDX-License-Identifier: Apache-2.0
"""Keeps points that took a while to make: in a file beside the photos, else in the user's cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from img3d_base.atomic_files import save_arrays
from img3d_base.console import CONSOLE
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import load_npz
from img3d_base.text_links import followed
from img3d_dataparsers.posed_photos import SeedPoints
from img3d_dataparsers.usable_photos import UsablePhoto

MAX_BYTES = 1 << 29
"""Of positions, or of colours: a thousand times those of an ordinary set of photos."""


def fingerprint(folder: Path, photos: Sequence[UsablePhoto], recipe: str) -> str:
    """Stands for photos (as files, so that nothing is read), their masks and cameras, and what is made of them.

    Args:
        folder: what the photos' paths count from, so that a data set may move.
        photos: in order.
        recipe: what is made of them.
    """
    digest = hashlib.sha256(recipe.encode())
    for photo in photos:
        files = [path for path in (photo.image_path, photo.mask_path) if path is not None]
        stats = [followed(path).stat() for path in files]
        said = [(os.path.relpath(path, folder), s.st_size, s.st_mtime_ns) for path, s in zip(files, stats, strict=True)]
        digest.update(repr((said, photo.intrinsics, photo.camera_to_world.tolist())).encode())
    return digest.hexdigest()[:16]


def kept_points(places: Sequence[Path], key: str, make: Callable[[], SeedPoints]) -> SeedPoints:
    """The points that were kept under `key`, else those that `make` makes, which are then kept.

    Args:
        places: folders to keep them in; the first that can be written.
        key: stands for all that the points depend on; part of the file's name.
        make: makes the points.
    """
    name = f"seed_points-{key}.npz"
    paths = [place / name for place in places]
    for path in paths:
        if path.is_file():
            try:
                points = _read(path)
            except InputError as error:
                warn(f"{error}; its points are made anew")
                continue
            CONSOLE.print(f"Seed points: {len(points[0]):,} from the cache {path}", markup=False, soft_wrap=True)
            return points
    points = make()
    for path in paths:
        try:
            save_arrays(path, xyz=points[0], rgb=points[1])
        except OSError:
            continue
        CONSOLE.print(f"Seed points: {len(points[0]):,}, kept in {path}", markup=False, soft_wrap=True)
        return points
    warn(f"the seed points could not be kept in {' or '.join(map(str, places))}: read-only or full")
    return points


def _read(path: Path) -> SeedPoints:
    arrays = load_npz(path, ("xyz", "rgb"), MAX_BYTES)
    xyz, rgb = arrays["xyz"], arrays["rgb"]
    kinds, shape = (xyz.dtype, rgb.dtype), (len(rgb) if rgb.ndim else 0, 3)
    if kinds != (np.float64, np.uint8) or xyz.shape != shape or rgb.shape != shape or not np.isfinite(xyz).all():
        raise InputError(f"{path} holds no points and colours")
    return xyz, rgb
