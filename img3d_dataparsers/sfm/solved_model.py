# SPDX-License-Identifier: Apache-2.0
"""Reading a stored reconstruction: cameras, poses and points in COLMAP's format.

The files may have come with somebody else's photos and be damaged or malicious, so everything in them is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_base.errors import InputError
from img3d_base.foreign_files import legible, require_regular
from img3d_dataparsers.formats.colmap_model import ModelCamera, ModelImage, read_cameras, read_images, read_points
from img3d_dataparsers.intrinsics import MAX_FOCAL, MIN_FOCAL
from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.photo_cameras import SOLVED
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet

BYTES_PER_PHOTO = 1 << 18
"""Largest size of each file per photo: a photo has 8192 features of 24 bytes, or 30 if they belong to a point."""
ROUNDING = 1e-6
"""Tolerance for a quaternion's length."""
MAX_COORDINATE = 1e9
"""Largest plausible coordinate: solved worlds are a few units large."""
IN_VIEW_OF, SAMPLE = 0.5, 20_000
"""Share of the photos that must have points in view, and number of points that are tested."""


@dataclass(frozen=True)
class SolvedPhoto:
    """A photo with a pose."""

    photo: Photo
    camera: ModelCamera
    """The camera of the sensor's picture."""
    world_to_camera: FloatArray
    """`[3, 4]`, OpenCV axes of the sensor's picture."""


@dataclass(frozen=True)
class SolvedModel:
    """Cameras, poses and points in an arbitrary world."""

    photos: list[SolvedPhoto]
    """In the order of the photo set."""
    xyz: FloatArray
    """`[P, 3]`"""
    rgb: npt.NDArray[np.uint8]
    """`[P, 3]`"""


def read_model(folder: Path, photo_set: PhotoSet) -> SolvedModel:
    """Reads the model of these photos.

    Raises:
        InputError: It is damaged, or not of these photos.
    """
    most = BYTES_PER_PHOTO * max(len(photo_set.photos), 4)
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        size = require_regular(folder / name).stat().st_size
        if size > most:
            raise InputError(f"{folder / name} has {size:,} bytes, more than the {most:,} possible for its photos")
    cameras, images, points = read_cameras(folder), read_images(folder), read_points(folder)
    assert points is not None  # the file exists
    of_name = {image.name: image for image in images}
    photos = [
        _solved(photo, of_name.pop(photo.name), cameras, folder) for photo in photo_set.photos if photo.name in of_name
    ]
    if of_name or len(photos) != len(images):
        name = next(iter(of_name), "a photo twice")
        raise InputError(f"{folder} is of other photos: it has {legible(name)}")
    model = SolvedModel(photos, *points)
    if not np.all(np.abs(model.xyz) < MAX_COORDINATE) or not _is_in_view(model):
        raise InputError(f"{folder} is damaged: its photos do not see its points")
    return model


def _solved(photo: Photo, image: ModelImage, cameras: dict[int, ModelCamera], folder: Path) -> SolvedPhoto:
    camera = cameras.get(image.camera)
    if camera is None or camera.model != SOLVED[photo.lens] or (camera.width, camera.height) != photo.sensor_size:
        raise InputError(f"{folder} has another camera than that of {legible(photo.name)}")
    focal_length, *others = camera.parameters
    sides = (camera.width, camera.height)
    if photo.lens == "equirectangular":
        if camera.parameters != sides:
            raise InputError(f"{folder} has an impossible camera for {legible(photo.name)}")
    elif not all(MIN_FOCAL < focal_length / side < MAX_FOCAL for side in sides) or not np.all(
        np.abs(others) < MAX_COORDINATE
    ):
        raise InputError(f"{folder} has an impossible camera for {legible(photo.name)}")
    if abs(image.quaternion_length - 1) > ROUNDING or not np.all(np.abs(image.world_to_camera) < MAX_COORDINATE):
        raise InputError(f"{folder} has an invalid pose of {legible(photo.name)}")
    return SolvedPhoto(photo, camera, image.world_to_camera)


def _is_in_view(model: SolvedModel) -> bool:
    """Whether at least half of the photos have points in view, as fabricated poses and points would not."""
    some = np.random.default_rng(0).permutation(len(model.xyz))[:SAMPLE]
    xyz = model.xyz[some]
    sees = []
    for solved in model.photos:
        rotation, translation = solved.world_to_camera[:, :3], solved.world_to_camera[:, 3]
        x, y, z = (xyz @ rotation.T + translation).T
        focal_length = solved.camera.parameters[0]
        width, height = solved.camera.width, solved.camera.height
        if solved.photo.lens == "equirectangular":
            in_view = np.ones(len(xyz), dtype=np.bool_)
        elif solved.photo.lens == "fisheye":
            in_view = focal_length * np.arctan2(np.hypot(x, y), z) < max(width, height)
        else:
            in_view = (z > 0) & (focal_length * np.abs(x) < width * z) & (focal_length * np.abs(y) < height * z)
        sees.append(in_view.any())
    return bool(sees) and float(np.mean(sees)) >= IN_VIEW_OF
