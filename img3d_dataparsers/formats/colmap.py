# SPDX-License-Identifier: Apache-2.0
"""Makes posed photos of a COLMAP model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from img3d_base.errors import InputError, warn
from img3d_dataparsers.formats.colmap_model import ModelCamera, read_cameras, read_images, read_points
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.photo_files import is_file
from img3d_dataparsers.posed_photos import FloatArray, PosedPhotos, SeedPoints

SUFFIXES = (".txt", ".bin")
Z_UP = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
"""From COLMAP's world, which guesses that gravity is +y, to one with z up, as Nerfstudio's COLMAP parser does it."""


def find_reconstruction(folder: Path) -> Path | None:
    """The folder of the COLMAP model in a data set, where ns-process-data and COLMAP itself put it."""
    for name in ("colmap/sparse/0", "sparse/0", "sparse"):
        if any((folder / name / f"cameras{suffix}").is_file() for suffix in SUFFIXES):
            return folder / name
    return None


def is_reconstruction(folder: Path) -> bool:
    """Whether a model lies right in a folder, as COLMAP exports it; `cameras.txt` alone could be anything."""
    return any(all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")) for suffix in SUFFIXES)


def read_colmap(folder: Path, reconstruction: Path) -> PosedPhotos:
    """Reads the cameras of a COLMAP model whose photos lie in `folder/images`, or in the folder itself.

    Args:
        folder: the data set.
        reconstruction: the folder with cameras, images and points3D as `.txt` or `.bin`.

    Raises:
        InputError: the model cannot be read, or has a camera model that Nerfstudio does not know.
    """
    cameras, images = read_cameras(reconstruction), read_images(reconstruction)
    missing = sorted({image.camera for image in images} - cameras.keys())
    if missing or not images:
        what = f"has no camera {missing[0]}, which a photo names" if missing else "lists no photos"
        raise InputError(f"the COLMAP model in {reconstruction} cannot be used: it {what}; export it again")
    intrinsics = {number: _intrinsics(camera, reconstruction) for number, camera in cameras.items()}
    frames = [
        {
            "file_path": image.name,
            "transform_matrix": _opengl_to_z_up(image.world_to_camera),
            **intrinsics[image.camera],
        }
        for image in images
    ]
    photo_folder = _photo_folder(folder, [image.name for image in images])
    return PosedPhotos(
        source=reconstruction,
        folder=folder,
        frames=sorted(frames_of_meta({"frames": frames}, photo_folder), key=lambda frame: frame.image_path),
        applied_transform=Z_UP,
        read_seed_points=lambda: read_colmap_points(reconstruction, Z_UP),
    )


def read_colmap_points(reconstruction: Path, applied_transform: FloatArray) -> SeedPoints | None:
    """The model's 3D points in the coordinates that `applied_transform` `[3, 4]` leads to, with their colours.

    None where it has none, which is no error: models made from known poses have no points yet.
    """
    try:
        points = read_points(reconstruction)
    except InputError as error:
        warn(f"{error}; training starts without its points")
        return None
    if points is None or not len(points[0]):
        return None
    xyz, rgb = points
    return xyz @ applied_transform[:, :3].T + applied_transform[:, 3], rgb


def _opengl_to_z_up(world_to_camera: FloatArray) -> FloatArray:
    """`[3, 4]` from OpenGL camera axes to the world that `Z_UP` leads to."""
    rotation, translation = world_to_camera[:, :3], world_to_camera[:, 3]
    to_world = np.column_stack([rotation.T * [1.0, -1.0, -1.0], -rotation.T @ translation])
    return Z_UP[:, :3] @ to_world


def _intrinsics(camera: ModelCamera, reconstruction: Path) -> dict[str, Any]:
    # Imported late: it drags in Nerfstudio's data processing, which most data sets never need.
    from nerfstudio.data.utils.colmap_parsing_utils import Camera
    from nerfstudio.process_data.colmap_utils import parse_colmap_camera_params

    try:
        return parse_colmap_camera_params(Camera(0, camera.model, camera.width, camera.height, camera.parameters))
    except (IndexError, NotImplementedError) as error:
        raise InputError(
            f"the COLMAP model in {reconstruction} has a camera of the model {camera.model}, which is not supported: "
            "run colmap image_undistorter, and give its output"
        ) from error


def _photo_folder(folder: Path, names: list[str]) -> Path:
    """What the names are relative to: `images/`, unless none of them is there but in the folder itself."""
    images = folder / "images"
    if not any(is_file(images / name) for name in names) and any(is_file(folder / name) for name in names):
        return folder
    return images
