# SPDX-License-Identifier: Apache-2.0
"""Reading the `.camera` files of Strecha's multi-view benchmark ("On Benchmarking Camera Calibration …", CVPR 2008).

`NAME.jpg.camera` belongs to the photo `NAME.jpg` and holds, row by row: K `[3, 3]`; three zeros; R `[3, 3]`, whose
columns are the camera's axes in the world (x right, y down, z forward); the camera's centre; width and height.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_base.errors import InputError
from img3d_base.foreign_files import read_bytes
from img3d_dataparsers.formats.capture_files import finite_numbers, photos_in, require_cameras
from img3d_dataparsers.posed_photos import Frame, PosedPhotos
from img3d_pictures.file_resolver import PHOTO_FOLDER, FileResolver, is_file
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.photo_folders import PHOTOS

MAX_BYTES = 1 << 16
"""Largest `.camera` file: it has 26 numbers."""


def is_strecha(folder: Path) -> bool:
    """Whether a folder, or a folder directly in it, has `.camera` files named after photos."""
    return bool(_camera_folders(folder))


def read_strecha(folder: Path) -> PosedPhotos:
    """Reads the cameras. The photos are beside them, in `images/`, or in the folder itself.

    Raises:
        InputError: There are no photos, one has no camera, several folders have cameras, or a file is damaged.
    """
    cameras, *others = _camera_folders(folder)
    if others:
        raise InputError(f"{folder} has .camera files in both {cameras.name}/ and {others[0].name}/; keep one of them")
    paths = {path.stem: path for path in _cameras_in(cameras)}
    files = FileResolver(folder, [cameras.relative_to(folder).as_posix(), PHOTO_FOLDER, ""])
    found = {
        photo: paths[name] for name, photo in zip(paths, files.find(list(paths), PHOTOS), strict=True) if is_file(photo)
    }
    if not found:
        raise InputError(f"{cameras} has cameras, but there are no photos beside them, in {folder / 'images'} or above")
    photos = photos_in(next(iter(found)).parent)
    require_cameras(photos, [found.get(photo, cameras / f"{photo.name}.camera") for photo in photos])
    return PosedPhotos(
        source=cameras,
        folder=folder,
        frames=[_frame(photo, path) for photo, path in found.items()],
        assumptions=files.assumptions,
    )


def _camera_folders(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [candidate for candidate in (folder, *inside) if _cameras_in(candidate)]


def _cameras_in(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".camera")
    return [path for path in paths if Path(path.stem).suffix.lower() in IMAGE_SUFFIXES]


def _frame(photo: Path, path: Path) -> Frame:
    try:
        text = read_bytes(path, MAX_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file; a .camera file has 26 numbers") from error
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    values = finite_numbers(numbers, 26, "K, 0 0 0, R, centre and size", path)
    matrix, distortion = values[:9].reshape(3, 3), values[9:12]
    if distortion.any() or matrix[0, 1] or matrix[1, 0] or matrix[2].tolist() != [0, 0, 1]:
        raise InputError(f"{path} has distortion or skew; img3d reads .camera files of undistorted photos only")
    axes, centre = values[12:21].reshape(3, 3), values[21:24]
    width, height = values[24:]
    return Frame(
        name=photo.name,
        image_path=photo,
        camera_to_world=np.column_stack([axes * [1.0, -1.0, -1.0], centre]),
        intrinsics={
            "fl_x": float(matrix[0, 0]),
            "fl_y": float(matrix[1, 1]),
            "cx": float(matrix[0, 2]),
            "cy": float(matrix[1, 2]),
            "w": float(width),
            "h": float(height),
        },
    )
