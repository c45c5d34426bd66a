# SPDX-License-Identifier: Apache-2.0
"""Reading LLFF's `poses_bounds.npy`, the format of forward-facing captures (Mildenhall et al. 2019).

Published at https://github.com/Fyusion/LLFF ("Using your own poses without running COLMAP").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_base.errors import InputError, counted
from img3d_base.foreign_files import load_npy
from img3d_dataparsers.formats.capture_files import photos_in
from img3d_dataparsers.posed_photos import FloatArray, Frame, PosedPhotos
from img3d_pictures.file_resolver import PHOTO_FOLDER, FileResolver
from img3d_pictures.photo_folders import PHOTOS

POSES_NAME = "poses_bounds.npy"
MAX_BYTES = 64 << 20
"""Largest file: it has 136 bytes per photo."""


def is_llff(folder: Path) -> bool:
    """Whether a folder has the format's pose file."""
    return FileResolver(folder).named(POSES_NAME).is_file()


def read_llff(folder: Path) -> PosedPhotos:
    """Reads the cameras, which are matched with the photos in alphabetical order.

    Photos come from `images/`, or from the largest of `images_2/`, `images_4/`, … if there are only reduced ones. The
    principal point is the centre of the photo, as the format does not store one.

    Raises:
        InputError: The file is damaged, there are no photos, or their number is not that of the cameras.
    """
    files = FileResolver(folder)
    path = files.named(POSES_NAME)
    rows = _load(path)
    photo_folder = files.folder(PHOTO_FOLDER, PHOTOS)
    photos = [] if photo_folder is None else photos_in(photo_folder)
    if not photos:
        raise InputError(f"{path} has {counted(len(rows), 'camera')}, but there are no photos in {folder / 'images'}")
    if len(photos) != len(rows):
        raise InputError(
            f"{path} has {counted(len(rows), 'camera')} for {counted(len(photos), 'photo')} in {photos[0].parent}: "
            "LLFF matches them by their order, so restore the missing ones or remove the surplus ones"
        )

    # Each row is a 3x5 matrix: the camera's down, right and back axes in the world, its centre, and (h, w, f).
    matrices = rows[:, :15].reshape(-1, 3, 5)
    down, right, back, origin, size = np.moveaxis(matrices, -1, 0)
    camera_to_worlds = np.stack([right, -down, back, origin], axis=-1)
    return PosedPhotos(
        source=path,
        folder=folder,
        assumptions=files.assumptions,
        frames=[
            Frame(
                name=photo.name,
                image_path=photo,
                camera_to_world=camera_to_world,
                intrinsics={"fl_x": float(focal), "w": float(width), "h": float(height)},
            )
            for photo, camera_to_world, (height, width, focal) in zip(photos, camera_to_worlds, size, strict=True)
        ],
    )


def _load(path: Path) -> FloatArray:
    """Reads the rows `[N, 17]`: a 3x5 matrix, then the depths of the nearest and the farthest point."""
    rows = load_npy(path, MAX_BYTES)
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise InputError(f"{path} holds an array of shape {rows.shape}; LLFF's has 17 numbers for each photo")
    return rows.astype(np.float64)
