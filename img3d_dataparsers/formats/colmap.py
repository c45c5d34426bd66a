# SPDX-License-Identifier: Apache-2.0
"""Reading posed photos from a COLMAP model: choosing among several models, lenses, 3D points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from img3d_base.errors import InputError, some_names, warn
from img3d_dataparsers.formats.colmap_model import (
    ModelCamera,
    ModelImage,
    count_images,
    read_cameras,
    read_images,
    read_points,
)
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.formats.ply_points import read_ply_points
from img3d_dataparsers.lenses.lens import EQUIRECTANGULAR, PARAMETERS
from img3d_dataparsers.posed_photos import FloatArray, PosedPhotos, SeedPoints
from img3d_pictures.file_resolver import PHOTO_FOLDER, FileResolver

SUFFIXES = (".txt", ".bin")
POINTS_PLY = "points3D.ply"
"""The points in the file of 3DGS, which some exporters write instead of COLMAP's."""
Z_UP = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
"""From COLMAP's world, in which -y is roughly up, to one with z up, as in Nerfstudio's COLMAP parser."""

UNIT_TOLERANCE = 1e-2
"""Tolerance for a unit quaternion's length; files are rounded."""
LENSES = {
    "SIMPLE_PINHOLE": ("OPENCV", "f cx cy"),
    "PINHOLE": ("OPENCV", "fl_x fl_y cx cy"),
    "SIMPLE_RADIAL": ("OPENCV", "f cx cy k1"),
    "RADIAL": ("OPENCV", "f cx cy k1 k2"),
    "OPENCV": ("OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2"),
    "FULL_OPENCV": ("FULL_OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", "fl_x fl_y cx cy k1 k2 k3 k4"),
    "SIMPLE_FISHEYE": ("OPENCV_FISHEYE", "f cx cy"),
    "FISHEYE": ("OPENCV_FISHEYE", "fl_x fl_y cx cy"),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1"),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", "f cx cy k1 k2"),
    EQUIRECTANGULAR: (EQUIRECTANGULAR, "w h"),
    **{model: (model, names) for model, names in PARAMETERS.items()},
}
"""COLMAP's camera models: the corresponding model of transforms.json and the names of the parameters there."""
IN_IMAGES = (PHOTO_FOLDER, "")
SPARSE = {
    "colmap/sparse": IN_IMAGES,
    "sparse": IN_IMAGES,
    "dense/sparse": (f"dense/{PHOTO_FOLDER}",),
    "dense/0/sparse": (f"dense/0/{PHOTO_FOLDER}",),
    "colmap_sparse": IN_IMAGES,
    "colmap_text": IN_IMAGES,
    "distorted/sparse": ("input",),
}
"""Folders of COLMAP models, the preferred ones first, and of their photos: those of ns-process-data, of COLMAP itself,
of its undistorter and its automatic reconstructor, of Instant-NGP's colmap2nerf, and of 3DGS's convert.py."""


def find_reconstruction(folder: Path) -> Path | None:
    """The folder of the COLMAP model in a data set; of several, the one with the most photos.

    COLMAP splits photos that it cannot connect into several models; the largest one is taken for the scene.
    """
    return next(iter(reconstructions_in(folder)), None)


def reconstructions_in(folder: Path) -> list[Path]:
    """The folders of the COLMAP models in a data set, in the folders `SPARSE`.

    Models with more photos come first; among equals, the one that COLMAP made first.
    """
    files = FileResolver(folder)
    for root in map(files.named, SPARSE):
        inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        inside.sort(key=lambda path: int(path.name) if path.name.isdecimal() else len(inside))
        models = [path for path in (*inside, root) if _has_cameras(path)]
        if models:
            return sorted(models, key=count_images, reverse=True) if len(models) > 1 else models
    return []


def _has_cameras(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in SUFFIXES)


def is_reconstruction(folder: Path) -> bool:
    """Whether a folder itself is a COLMAP model. (`cameras.txt` alone could be anything.)"""
    return any(all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")) for suffix in SUFFIXES)


def read_colmap(folder: Path, reconstruction: Path) -> PosedPhotos:
    """Reads the cameras of a COLMAP model whose photos are in `folder/images`, or in the folder itself.

    Args:
        folder: The data set's folder.
        reconstruction: The folder with cameras, images and points3D as `.txt` or `.bin`.

    Raises:
        InputError: The model cannot be read, or has no photos.
    """
    _say_which_of_several(folder, reconstruction)
    cameras, images = read_cameras(reconstruction), read_images(reconstruction)
    missing = sorted({image.camera for image in images} - cameras.keys())
    if missing or not images:
        what = f"has no camera {missing[0]}, to which a photo refers" if missing else "lists no photos"
        raise InputError(f"the COLMAP model in {reconstruction} cannot be used: it {what}; export it again")
    unknown = sorted({cameras[image.camera].model for image in images} - LENSES.keys())
    if unknown:
        raise InputError(
            f"the COLMAP model in {reconstruction} cannot be used: COLMAP 4.2 has no camera model "
            f"{some_names(unknown)}; export it again"
        )
    _warn_of_scaled_rotations(images)
    frames = [
        {
            "file_path": image.name,
            "transform_matrix": Z_UP[:, :3] @ image.camera_to_world,
            **_intrinsics(cameras[image.camera]),
        }
        for image in images
    ]
    files = FileResolver(folder, _photo_folders(folder, reconstruction))
    for name in SPARSE:
        files.named(name)  # records a warning if the folder is spelled differently
    posed_frames = frames_of_meta({"frames": frames}, files)
    return PosedPhotos(
        source=reconstruction,
        folder=folder,
        frames=sorted(posed_frames, key=lambda frame: frame.image_path),
        assumptions=files.assumptions,
        applied_transform=Z_UP,
        read_seed_points=lambda: read_colmap_points(reconstruction, Z_UP),
    )


def _photo_folders(folder: Path, reconstruction: Path) -> tuple[str, ...]:
    """The folders that the photos' names may be relative to."""
    files = FileResolver(folder)
    return next(
        (places for name, places in SPARSE.items() if reconstruction.is_relative_to(files.named(name))), IN_IMAGES
    )


def read_colmap_points(reconstruction: Path, applied_transform: FloatArray) -> SeedPoints | None:
    """The model's 3D points, transformed by `applied_transform` `[3, 4]`, with their colours.

    None if it has no points, which is not an error: models made from known poses have none.
    """
    try:
        points = read_points(reconstruction)
    except InputError as error:
        warn(f"{error}; training starts without its points")
        return None
    if points is None and (reconstruction / POINTS_PLY).is_file():
        points = read_ply_points(reconstruction / POINTS_PLY)
    if points is None or not len(points[0]):
        return None
    xyz, rgb = points
    return xyz @ applied_transform[:, :3].T + applied_transform[:, 3], rgb


def _say_which_of_several(folder: Path, chosen: Path) -> None:
    models = reconstructions_in(folder)
    if len(models) > 1 and chosen in models:
        others = [f"{path.relative_to(folder)} with {count_images(path)}" for path in models if path != chosen]
        warn(
            f"there are {len(models)} COLMAP models, which are not connected: the one with the most photos is used, "
            f"{chosen.relative_to(folder)} with {count_images(chosen)} (not {some_names(others)})"
        )


def _warn_of_scaled_rotations(images: list[ModelImage]) -> None:
    names = [image.name for image in images if UNIT_TOLERANCE < abs(image.quaternion_length - 1) < np.inf]
    if names:
        warn(
            f"{len(names)} of {len(images)} photos have a quaternion whose length is not 1 ({some_names(names)}); "
            "the scale is ignored"
        )


def _intrinsics(camera: ModelCamera) -> dict[str, Any]:
    """The intrinsics with the keys of transforms.json."""
    model, names = LENSES[camera.model]
    values: dict[str, Any] = {"camera_model": model, "w": camera.width, "h": camera.height}
    for name, value in zip(names.split(), camera.parameters, strict=True):
        values["fl_x" if name == "f" else name] = value
    return values
