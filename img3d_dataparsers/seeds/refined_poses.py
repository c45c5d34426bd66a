# SPDX-License-Identifier: Apache-2.0
"""Corrected poses, kept in a file beside the photos or in the user's cache, so that all later runs have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from img3d_base.console import print_line
from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import load_npz
from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.seeds.seed_cache import fingerprint, keep
from img3d_dataparsers.usable_photos import UsablePhoto

RECIPE = "poses 1"
"""To change with everything that affects the poses, to invalidate kept ones."""
MAX_BYTES = 1 << 27
"""Largest array in a file: a million photos."""


def kept_poses(places: Sequence[Path], folder: Path, photos: Sequence[UsablePhoto]) -> FloatArray | None:
    """The corrected poses `[N, 4, 4]` of photos, OpenGL axes; None if none are kept.

    Args:
        places: Folders that may have them.
        folder: The data set's folder.
        photos: The photos, with the poses as given.
    """
    name = _name(folder, photos)
    for path in [place / name for place in places]:
        if not path.is_file():
            continue
        try:
            poses = load_npz(path, ("camera_to_worlds",), MAX_BYTES)["camera_to_worlds"]
            if poses.dtype != np.float64 or poses.shape != (len(photos), 4, 4) or not np.isfinite(poses).all():
                raise InputError(f"{path} does not hold the photos' poses")
        except InputError as error:
            warn(f"{error}; the poses are corrected again")
            continue
        print_line(f"Poses corrected by an earlier run, from the cache {path}")
        return poses
    return None


def keep_poses(places: Sequence[Path], folder: Path, photos: Sequence[UsablePhoto], poses: FloatArray) -> None:
    """Writes corrected poses `[N, 4, 4]` to the first place that can be written to; see `kept_poses`."""
    keep(places, _name(folder, photos), "the corrected poses", camera_to_worlds=poses)


def _name(folder: Path, photos: Sequence[UsablePhoto]) -> str:
    return f"refined_poses-{fingerprint(folder, photos, RECIPE)}.npz"
