# SPDX-License-Identifier: Apache-2.0
"""Metric scale from a measured distance between two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from img3d_base.errors import InputError, some_names
from img3d_dataparsers.posed_photos import PosedPhotos
from img3d_dataparsers.usable_photos import UsablePhoto

CameraDistance = tuple[str, str, float]
"""Names of two photos, and the distance in metres between their cameras."""


def in_metres(posed: PosedPhotos, photos: Sequence[UsablePhoto], distance: CameraDistance) -> PosedPhotos:
    """Scales the original capture to metres; the frames stay as they are.

    Args:
        posed: The data set.
        photos: Its usable photos.
        distance: The measured distance.

    Raises:
        InputError: A photo is not found, or the distance is not positive, or both photos have the same position.
    """
    first, second, metres = distance
    origins = [_photo(photos, name).camera_to_world[:3, 3] for name in (first, second)]
    units = float(np.linalg.norm(origins[1] - origins[0]))
    if not metres > 0 or not np.isfinite(metres):
        raise InputError(f"--camera-distance {first} {second} {metres:g}: give the metres between two cameras")
    if units == 0:
        raise InputError(
            f"--camera-distance {first} {second} {metres:g}: both were taken from the same place; give two photos "
            "that are far apart"
        )
    metres_per_original = metres / units * posed.applied_scale
    transform = posed.applied_transform.copy()
    transform[:, 3] *= metres_per_original
    return replace(
        posed,
        applied_transform=transform,
        applied_scale=units / metres,
        scale_source=f"the {metres:g} m between {first} and {second}",
    )


def _photo(photos: Sequence[UsablePhoto], name: str) -> UsablePhoto:
    """Finds a photo by its name, with or without folders."""
    parts = Path(name).parts
    found = [photo for photo in photos if photo.image_path.parts[-len(parts) :] == parts]
    if not found:
        names = some_names([photo.image_path.name for photo in photos])
        raise InputError(f"--camera-distance: there is no usable photo {name}; usable are {names}")
    if len(found) > 1:
        raise InputError(f"--camera-distance: {len(found)} photos have the name {name}; give the folder too")
    return found[0]
