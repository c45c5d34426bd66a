# SPDX-License-Identifier: Apache-2.0
"""Filling a COLMAP database with features and matches. Existing entries are kept, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from img3d_base.atomic_files import check_disk, save_arrays
from img3d_base.errors import InputError
from img3d_base.foreign_files import load_npz
from img3d_base.threaded import in_threads
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.photo_cameras import camera_of, sensor_pixels
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet
from img3d_dataparsers.sfm.retrieval import pairs_to_match
from img3d_dataparsers.sfm.sift import Features, find_features, match
from img3d_dataparsers.sfm.support import is_homography
from img3d_dataparsers.sfm.wide_lenses import panorama_features
from img3d_pictures.reading import read_mask, read_photo

FEATURE_SIZE = 1600
"""Longest side in pixels of the photos in which features are detected."""
MAX_FEATURES, FEW_PHOTOS, MAX_FEATURES_OF_FEW = 4096, 25, 8192
"""Largest number of features per photo: with at most FEW_PHOTOS photos, twice as many, as every one counts."""
MAX_FEATURE_BYTES = 1 << 26
"""Largest array in a file of cached features: 16 times the actual size."""
MAX_RATIO = 0.8
"""Threshold of Lowe's ratio test."""
IN_COMMON = 30
"""Fewest matches of two photos that count as showing the same place."""
MIN_MATCHES = 15
"""Fewest matches of a pair of photos that is verified; COLMAP's default."""
MAX_TRIALS = 1500
"""Iterations of RANSAC. COLMAP's 10,000 take six times as long for the same inliers, except for pairs that hardly
overlap."""


def features_of(photo_set: PhotoSet, folder: Path) -> list[Features]:
    """Features of every photo, in pixels of the upright photo at full size.

    Args:
        photo_set: The photos.
        folder: Folder in which features are cached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    max_features = MAX_FEATURES_OF_FEW if len(photo_set.photos) <= FEW_PHOTOS else MAX_FEATURES

    def keep(photo: Photo) -> Features:
        path = folder / f"{photo.digest}.npz"
        kept = _read_features(path)
        if kept is None:
            kept = features_of_photo(photo, max_features)
            save_arrays(path, xy=kept.xy, descriptors=kept.descriptors.numpy(), rgb=kept.rgb)
        return kept

    return in_threads(keep, photo_set.photos, "Finding features")


def _read_features(path: Path) -> Features | None:
    try:
        arrays = load_npz(path, ("xy", "descriptors", "rgb"), MAX_FEATURE_BYTES)
    except InputError:  # not cached yet, or damaged
        return None
    xy, descriptors, rgb = arrays["xy"], arrays["descriptors"], arrays["rgb"]
    shapes, kinds = (xy.shape, descriptors.shape, rgb.shape), (xy.dtype, descriptors.dtype, rgb.dtype)
    count = len(xy) if xy.ndim else 0
    if shapes != ((count, 2), (count, 128), (count, 3)) or kinds != (np.float64, np.float16, np.uint8):
        return None
    return Features(xy, torch.from_numpy(descriptors), rgb)


def features_of_photo(photo: Photo, max_features: int) -> Features:
    """Features of one photo, only where its mask is white, in pixels of the upright photo at full size."""
    if photo.lens == "equirectangular":
        return panorama_features(photo, max_features)
    scale = min(1.0, FEATURE_SIZE / max(photo.size))
    width, height = (round(scale * side) for side in photo.upright_size)
    image = read_photo(photo.path, width, height, upright=True)
    mask = None if photo.mask_path is None else read_mask(photo.mask_path, width, height, True, photo.path)
    features = find_features(image, mask, max_features)
    return replace(features, xy=features.xy * np.array(photo.upright_size) / (width, height))


def write_photos(database_path: Path, photo_set: PhotoSet, features: Sequence[Features]) -> None:
    """Writes cameras, photos and keypoints in one transaction, unless they are in the database already."""
    with opened(database_path) as database:
        if database.num_images() == len(photo_set.photos):
            return
        with pycolmap.DatabaseTransaction(database):
            cameras: dict[str, tuple[int, int]] = {}
            for i, (photo, of_photo) in enumerate(zip(photo_set.photos, features, strict=True)):
                if photo.camera not in cameras:
                    cameras[photo.camera] = _write_camera(database, photo)
                camera_id, rig_id = cameras[photo.camera]
                image = pycolmap.Image(name=photo.name, camera_id=camera_id, image_id=i + 1)
                database.write_image(image, use_image_id=True)
                frame = pycolmap.Frame()
                frame.rig_id = rig_id
                frame.add_data_id(image.data_id)
                database.write_frame(frame)
                database.write_keypoints(i + 1, sensor_pixels(of_photo.xy, photo).astype(np.float32))


def _write_camera(database: pycolmap.Database, photo: Photo) -> tuple[int, int]:
    camera = camera_of(photo)
    camera.camera_id = database.write_camera(camera)
    rig = pycolmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    return camera.camera_id, database.write_rig(rig)


def verification_options() -> pycolmap.TwoViewGeometryOptions:
    """How matches of two photos are verified."""
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.max_num_trials = MAX_TRIALS
    options.ransac.random_seed = 0
    return options


def match_photos(database_path: Path, photo_set: PhotoSet, features: Sequence[Features]) -> None:
    """Matches photos that may overlap, and verifies the matches geometrically.

    Args:
        database_path: The database with the photos; pairs that are in it are not matched again.
        photo_set: The photos.
        features: The features of each photo.
    """
    pairs = pairs_to_match([of_photo.descriptors for of_photo in features])
    with opened(database_path) as database:
        todo = [(i, j) for i, j in pairs if not database.exists_matches(i + 1, j + 1)]
        cameras = [camera_of(photo) for photo in photo_set.photos]
        xy = [sensor_pixels(f.xy, photo) for f, photo in zip(features, photo_set.photos, strict=True)]
        options = verification_options()
        one_at_a_time = Lock()

        def match_pair(pair: tuple[int, int]) -> None:
            i, j = pair
            matches = match(features[i].descriptors.float(), features[j].descriptors.float(), MAX_RATIO)
            geometry = pycolmap.TwoViewGeometry()
            if len(matches) >= MIN_MATCHES:
                geometry = pycolmap.estimate_two_view_geometry(
                    cameras[i], xy[i], cameras[j], xy[j], matches.astype(np.uint32), options
                )
            with one_at_a_time, pycolmap.DatabaseTransaction(database):
                database.write_matches(i + 1, j + 1, matches.astype(np.uint32))
                database.write_two_view_geometry(i + 1, j + 1, geometry)

        in_threads(match_pair, todo, "Matching photos")


@dataclass(frozen=True)
class Pairs:
    """The matched pairs of photos."""

    photos: npt.NDArray[np.int64]
    """Indices of the photos, `[P, 2]`."""
    shared: npt.NDArray[np.int64]
    """Number of verified matches, `[P]`."""
    is_homography: npt.NDArray[np.bool_]
    """Whether a homography explains the matches, so that they do not determine depth, `[P]`."""

    @property
    def related(self) -> npt.NDArray[np.bool_]:
        """Whether they show the same place, `[P]`."""
        return self.shared >= IN_COMMON


def pairs_in(database_path: Path) -> Pairs:
    """Reads the matched pairs of photos."""
    with opened(database_path) as database:
        pair_ids, geometries = database.read_two_view_geometries()
    photos = [pycolmap.pair_id_to_image_pair(pair_id) for pair_id in pair_ids]
    return Pairs(
        photos=np.array(photos, dtype=np.int64).reshape(-1, 2) - 1,
        shared=np.array([len(geometry.inlier_matches) for geometry in geometries], dtype=np.int64),
        is_homography=np.array([is_homography(geometry) for geometry in geometries], dtype=np.bool_),
    )


@contextmanager
def opened(database_path: Path) -> Generator[pycolmap.Database, None, None]:
    """Opens a database, and closes it at the end.

    Raises:
        OSError: SQLite's errors, such as "database or disk is full".
    """
    check_disk(database_path.parent)  # SQLite would only report that it cannot open the file
    database = None
    try:
        database = pycolmap.Database.open(database_path)
        yield database
    except RuntimeError as error:
        if "SQLite" not in str(error):
            raise
        raise OSError(str(error).rpartition("SQLite error: ")[2]) from error
    finally:
        if database is not None:
            database.close()
