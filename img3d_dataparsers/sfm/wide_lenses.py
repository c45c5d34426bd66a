# SPDX-License-Identifier: Apache-2.0
"""Structure from motion with panoramas and fisheyes: features on the faces of a cube, and a fisheye's focal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from img3d_base.threaded import in_threads
from img3d_dataparsers.lenses.lens import EQUIRECTANGULAR, Lens
from img3d_dataparsers.lenses.views import FACES, Resampling, View
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.photo_cameras import camera_of, sensor_pixels
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet
from img3d_dataparsers.sfm.sift import Features, IntArray, find_features, match
from img3d_pictures.reading import read_mask, read_photo

PANORAMA_SIZE = 2560
"""Width in pixels of the panoramas in which features are detected."""
FACE_ANGLE = np.radians(50)
"""Half of a face's field of view: more than 45 degrees, for features that reach beyond the cube's edges."""
FISHEYE_ANGLES = np.radians([95.0, 110.0, 125.0, 145.0, 165.0, 185.0, 210.0])
"""Fields of view along the longer side of a fisheye that are tried."""
TRIAL_PAIRS = 8
"""Number of pairs of successive photos with which they are tried."""


def panorama_features(photo: Photo, max_features: int) -> Features:
    """Features of a panorama, found on perspective views of it, in its pixels at full size.

    SIFT does not recognise what a panorama's projection stretches differently from place to place.
    """
    width = min(photo.upright_size[0], PANORAMA_SIZE)
    height = round(width * photo.upright_size[1] / photo.upright_size[0])
    image = read_photo(photo.path, width, height, upright=True)
    mask = None if photo.mask_path is None else read_mask(photo.mask_path, width, height, True, photo.path)
    lens = _panorama(width, height)
    whole = _panorama(*photo.upright_size)
    found = []
    for view, resampling in _faces(lens):
        of_face = find_features(resampling.photo(image), resampling.mask(mask), max_features // len(FACES))
        offsets = np.abs(of_face.xy - (view.cx, view.cy)) / view.fx
        own = (offsets <= 1).all(axis=1)  # each direction belongs to one face
        found.append(Features(whole.pixels(view.rays(of_face.xy[own])), of_face.descriptors[own], of_face.rgb[own]))
    return Features(
        np.concatenate([features.xy for features in found]),
        torch.cat([features.descriptors for features in found]),
        np.concatenate([features.rgb for features in found]),
    )


def _panorama(width: int, height: int) -> Lens:
    return Lens(EQUIRECTANGULAR, (width / 2, float(height), width / 2, height / 2), width, height)


@lru_cache(maxsize=1)
def _faces(lens: Lens) -> list[tuple[View, Resampling]]:
    size = round(2 * lens.focal_length * np.tan(FACE_ANGLE))
    focal, middle = lens.focal_length, size / 2
    views = [View(name, rotation, focal, focal, middle, middle, size, size) for name, rotation in FACES.items()]
    return [(view, Resampling.of(lens, view)) for view in views]


def with_fisheye_focal_lengths(
    photo_set: PhotoSet, features: Sequence[Features], max_ratio: float, options: pycolmap.TwoViewGeometryOptions
) -> PhotoSet:
    """The photos, with a focal length for the fisheyes that have none in their tags: the one with which most matches
    of successive photos agree.

    Args:
        photo_set: The photos.
        features: The features of each photo.
        max_ratio: Threshold of Lowe's ratio test.
        options: For verifying matches.
    """
    unknown = [i for i, photo in enumerate(photo_set.photos) if photo.lens == "fisheye" and photo.focal_length is None]
    if not unknown:
        return photo_set
    pairs = list(pairwise(unknown))
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), TRIAL_PAIRS)).round().astype(int)

    def inliers(pair: tuple[int, int]) -> IntArray:
        i, j = pair
        matches = match(features[i].descriptors.float(), features[j].descriptors.float(), max_ratio)
        return np.array([_inliers(photo_set, features, i, j, matches, angle, options) for angle in FISHEYE_ANGLES])

    counts = in_threads(inliers, [pairs[i] for i in chosen], "Trying focal lengths")
    best = FISHEYE_ANGLES[int(np.sum(counts, axis=0).argmax())] if counts else np.pi
    photos = [
        replace(photo, focal_length=_focal_length(photo, best)) if i in unknown else photo
        for i, photo in enumerate(photo_set.photos)
    ]
    return replace(photo_set, photos=photos)


def _focal_length(photo: Photo, field_of_view: float) -> float:
    return max(photo.size) / field_of_view


def _inliers(
    photo_set: PhotoSet,
    features: Sequence[Features],
    i: int,
    j: int,
    matches: IntArray,
    field_of_view: float,
    options: pycolmap.TwoViewGeometryOptions,
) -> int:
    """Number of matches of two photos that fit one relative pose."""
    if len(matches) < 8:
        return 0
    photos = [
        replace(photo_set.photos[k], focal_length=_focal_length(photo_set.photos[k], field_of_view)) for k in (i, j)
    ]
    cameras = [camera_of(photo) for photo in photos]
    xy = [sensor_pixels(features[k].xy, photo) for k, photo in zip((i, j), photos, strict=True)]
    geometry = pycolmap.estimate_calibrated_two_view_geometry(
        cameras[0], xy[0], cameras[1], xy[1], matches.astype(np.uint32), options
    )
    return len(geometry.inlier_matches)
