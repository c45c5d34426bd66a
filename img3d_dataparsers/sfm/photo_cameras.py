# SPDX-License-Identifier: Apache-2.0
"""COLMAP's camera of a photo before it is solved for, and its solved models."""

from __future__ import annotations

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.photo_lens import PhotoLens
from img3d_dataparsers.sfm.photo_set import Photo

GUESSED_FOCAL_LENGTH = 1.2
"""Initial focal length in longest sides if EXIF has none: COLMAP's default, 45 degrees."""
INITIAL: dict[PhotoLens, str] = {
    "perspective": "SIMPLE_RADIAL",
    "fisheye": "SIMPLE_RADIAL_FISHEYE",
    "equirectangular": "EQUIRECTANGULAR",
}
"""The initial camera models: focal length, principal point and one distortion coefficient; a panorama has none."""
SOLVED: dict[PhotoLens, str] = {
    "perspective": "RADIAL",
    "fisheye": "RADIAL_FISHEYE",
    "equirectangular": "EQUIRECTANGULAR",
}
"""The camera models of solutions, in which the mapping frees a second distortion coefficient."""


def camera_of(photo: Photo) -> pycolmap.Camera:
    """The initial camera of a photo."""
    focal_length = photo.focal_length or GUESSED_FOCAL_LENGTH * max(photo.size)
    camera = pycolmap.Camera.create_from_model_name(0, INITIAL[photo.lens], focal_length, *photo.sensor_size)
    # Focal lengths are only found from fundamental matrices, which perspective cameras alone have.
    camera.has_prior_focal_length = photo.focal_length is not None or photo.lens != "perspective"
    return camera


def sensor_pixels(upright: FloatArray, photo: Photo) -> FloatArray:
    """Converts pixels `[N, 2]` of the upright photo to the sensor's orientation, so that photos can share a camera."""
    x, y = upright.T
    width, height = photo.upright_size
    for _ in range(photo.quarter_turns):  # each undone counter-clockwise
        x, y = y, width - x
        width, height = height, width
    return np.stack([x, y], axis=1)
