# SPDX-License-Identifier: Apache-2.0
"""Reads the raw export ("all data") of the iOS app 3D Scanner App: a photo and a JSON file with ARKit's camera.

Published by example at https://github.com/laanlabs/3dScannerApp_samples. `frame_00000.json` holds
`cameraPoseARFrame` (16 numbers, row by row: camera to world, OpenGL axes for the sensor's landscape image) and
`intrinsics` (9 numbers, row by row). There are more cameras than photos: the app keeps the picture of every third.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from img3d_base.errors import InputError
from img3d_dataparsers.formats.capture_files import (
    ARKIT_SCALE,
    ARKIT_TO_Z_UP,
    CAMERA_FILES,
    DEPTH_MAPS,
    finite_numbers,
    load_json,
    may_hold,
    photos_in,
    require_cameras,
    thinned,
)
from img3d_dataparsers.formats.ply_points import read_ply_points
from img3d_dataparsers.posed_photos import FloatArray, Frame, PosedPhotos, SeedPoints
from img3d_pictures.file_resolver import FileResolver, is_file

PROJECTION_TOLERANCE = 1e-4


def is_arkit_frames(folder: Path) -> bool:
    """Whether a folder has a photo and its camera file under the app's names, which others use for labels."""
    return any(may_hold(path, "cameraPoseARFrame") for path in _camera_paths(FileResolver(folder), _photos(folder)))


def read_arkit_frames(folder: Path) -> PosedPhotos:
    """Reads the photos' cameras. ARKit's world is gravity-aligned, so its orientation is kept.

    Raises:
        InputError: A photo has no camera, or a camera file is damaged.
    """
    files, photos = FileResolver(folder), _photos(folder)
    camera_paths = _camera_paths(files, photos)
    require_cameras(photos, camera_paths)
    # Only phones with LiDAR have depth maps.
    depths = FileResolver(folder).find([f"depth{photo.stem[len('frame') :]}.png" for photo in photos], DEPTH_MAPS)
    points = files.named("points.ply")
    return PosedPhotos(
        source=folder,
        folder=folder,
        frames=[_frame(*of_photo) for of_photo in zip(photos, camera_paths, depths, strict=True)],
        assumptions=files.assumptions,
        applied_transform=ARKIT_TO_Z_UP,
        scale_source=ARKIT_SCALE,
        orientation_method="none",
        read_seed_points=lambda: _scan_points(points),
    )


def _photos(folder: Path) -> list[Path]:
    # The app also writes depth_00000.png, conf_00000.png and thumb_00000.jpg.
    return [photo for photo in photos_in(folder) if re.fullmatch(r"frame_\d+", photo.stem, re.IGNORECASE)]


def _camera_paths(files: FileResolver, photos: Sequence[Path]) -> list[Path]:
    return files.find([f"{photo.stem}.json" for photo in photos], CAMERA_FILES)


def _frame(photo: Path, path: Path, depth: Path) -> Frame:
    camera = load_json(path)
    pose = finite_numbers(camera.get("cameraPoseARFrame"), 16, "cameraPoseARFrame", path).reshape(4, 4)
    if np.abs(pose[3] - [0.0, 0.0, 0.0, 1.0]).max() > 1e-3:
        raise InputError(f"{path}: the last row of cameraPoseARFrame is not 0 0 0 1; export the capture again")
    matrix = finite_numbers(camera.get("intrinsics"), 9, "intrinsics", path).reshape(3, 3)
    # ARKit measures from the centre of the upper left pixel, we from its corner: its projectionMatrix in the same file
    # has (w - 2 (cx + 1/2)) / w where OpenGL has (w - 2 cx) / w.
    intrinsics = {
        "fl_x": float(matrix[0, 0]),
        "fl_y": float(matrix[1, 1]),
        "cx": float(matrix[0, 2] + 0.5),
        "cy": float(matrix[1, 2] + 0.5),
    }
    return Frame(
        name=photo.name,
        image_path=photo,
        camera_to_world=ARKIT_TO_Z_UP[:, :3] @ pose[:3],
        intrinsics={**intrinsics, **_size(camera.get("projectionMatrix"), matrix)},
        depth_path=depth if is_file(depth) else None,
    )


def _size(projection: Any, matrix: FloatArray) -> dict[str, float]:
    """The picture size that the intrinsics refer to, which the file gives only implicitly, by its projection matrix.

    Returns:
        `w` and `h`; empty if the matrix is absent or does not belong to the photo (but to the screen, say).
    """
    try:
        p = np.asarray(projection, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError):
        return {}
    if not (np.isfinite(p).all() and min(p[0, 0], p[1, 1], matrix[0, 0], matrix[1, 1]) > 0):
        return {}
    w, h = 2 * matrix[0, 0] / p[0, 0], 2 * matrix[1, 1] / p[1, 1]
    offset = 1 - (2 * matrix[0, 2] + 1) / w, (2 * matrix[1, 2] + 1) / h - 1
    if np.abs(p[:2, 2] - offset).max() > PROJECTION_TOLERANCE:
        return {}
    return {"w": float(round(w)), "h": float(round(h))}


def _scan_points(path: Path) -> SeedPoints | None:
    """Reads the scan's points, which the app exports in ARKit's world."""
    points = read_ply_points(path) if path.is_file() else None
    if points is None:
        return None
    xyz, rgb = thinned(points)
    return xyz @ ARKIT_TO_Z_UP[:, :3].T, rgb
