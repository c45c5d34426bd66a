# SPDX-License-Identifier: Apache-2.0
"""Reading `transforms.json`, the pose format of Nerfstudio and Instant-NGP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from img3d_base.errors import InputError, warn
from img3d_base.foreign_files import read_json
from img3d_dataparsers.formats.colmap import read_colmap_points, reconstructions_in
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.formats.model_beside import transform_from_model
from img3d_dataparsers.formats.ply_points import POINT_FILES, read_ply_points
from img3d_dataparsers.posed_photos import FloatArray, Frame, OrientationMethod, PosedPhotos, SeedPoints
from img3d_pictures.file_resolver import FileResolver
from img3d_pictures.photo_folders import PHOTOS

LEGACY_APPLIED_TRANSFORM = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]], dtype=np.float64)
"""The transform that ns-process-data applied to COLMAP's world before it recorded `applied_transform`
(nerfstudio_dataparser.py)."""


def load_meta(path: Path) -> dict[str, Any]:
    """Loads a transforms file and checks that it has frames.

    Raises:
        InputError: It cannot be read, is not JSON of limited depth, or has no frames.
    """
    meta = read_json(path)
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InputError(f"{path} has no list of frames; it is not a Nerfstudio or Instant-NGP data set")
    return meta


def read_transforms(path: Path) -> PosedPhotos:
    """Reads a transforms file; frames are sorted by photo, as in Nerfstudio.

    Raises:
        InputError: It cannot be read, is not a transforms file, or has an invalid value.
    """
    meta = load_meta(path)
    folder = path.parent
    models = reconstructions_in(folder)

    files = FileResolver(folder)
    frames = sorted(frames_of_meta(meta, files), key=lambda frame: frame.image_path)
    applied_scale = _scale(meta.get("applied_scale", 1.0), path)
    if meta.get("applied_transform") is not None:
        applied_transform = _transform(meta["applied_transform"], path)
    elif any(_is_legacy(model, frames) for model in models):
        applied_transform = LEGACY_APPLIED_TRANSFORM
    else:
        applied_transform = np.eye(4)[:3]

    splits = {
        split: set(files.find(_names(meta[f"{split}_filenames"], path), PHOTOS))
        for split in ("train", "val", "test")
        if meta.get(f"{split}_filenames") is not None
    }
    read_seed_points = _seed_reader(meta, files, models, frames, applied_transform, applied_scale)
    return PosedPhotos(
        source=path,
        folder=folder,
        frames=frames,
        assumptions=files.assumptions,
        splits=splits,
        applied_transform=applied_transform,
        applied_scale=applied_scale,
        orientation_method=_orientation(meta.get("orientation_override"), path),
        depth_units=_depth_units(meta, path, applied_scale),
        read_seed_points=read_seed_points,
    )


def _transform(value: Any, path: Path) -> FloatArray:
    try:
        matrix = np.asarray(value, dtype=np.float64)[:3]
    except (IndexError, OverflowError, TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 4) or not (np.abs(matrix) < 1e12).all() or abs(np.linalg.det(matrix[:, :3])) < 1e-12:
        raise InputError(f"{path}: applied_transform is not an invertible 3x4 matrix; correct or remove it")
    return matrix


def _orientation(value: Any, path: Path) -> OrientationMethod | None:
    if value is not None and value not in get_args(OrientationMethod):
        raise InputError(
            f"{path}: orientation_override is {value!r}, but must be one of {', '.join(get_args(OrientationMethod))}"
        )
    return value


def _scale(value: Any, path: Path, key: str = "applied_scale") -> float:
    if not isinstance(value, (int, float)) or not 1e-12 < value < 1e12:
        raise InputError(f"{path}: {key} is {value!r}, but must be a positive number")
    return float(value)


def _depth_units(meta: dict[str, Any], path: Path, applied_scale: float) -> dict[bool, float]:
    """The unit of depth in the capture's unit, of integers (True) and floats (False); empty if it is not declared.

    `depth_unit_scale_factor` is the name of Nerfstudio's option, for both kinds and in the capture's unit. In the files
    of Instant-NGP and NeRFCapture, `integer_depth_scale` is for integers and in the unit of the poses; 0 or less means
    none.
    """
    if meta.get("depth_unit_scale_factor") is not None:
        unit = _scale(meta["depth_unit_scale_factor"], path, "depth_unit_scale_factor")
        return {True: unit, False: unit}
    unit = meta.get("integer_depth_scale")
    if unit is None or isinstance(unit, (int, float)) and unit <= 0:
        return {}
    return {True: _scale(unit, path, "integer_depth_scale") / applied_scale}


def _names(names: Any, path: Path) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: train_filenames, val_filenames and test_filenames must be lists of file names")
    return names


def _is_legacy(model: Path, frames: Sequence[Frame]) -> bool:
    """Whether the frames are those of a model beside them, with `LEGACY_APPLIED_TRANSFORM` applied."""
    found = transform_from_model(model, frames, LEGACY_APPLIED_TRANSFORM, is_certain=False)
    return found is LEGACY_APPLIED_TRANSFORM


def _seed_reader(
    meta: dict[str, Any],
    files: FileResolver,
    models: Sequence[Path],
    frames: Sequence[Frame],
    applied_transform: FloatArray,
    applied_scale: float,
) -> Callable[[], SeedPoints | None]:
    """Returns a reader of seed points: from the PLY that the file names, else from a matching COLMAP model beside it.

    As in Nerfstudio's own parser, the points of the PLY have `applied_transform` applied, but not `applied_scale`.
    """
    ply_path = meta.get("ply_file_path")
    if isinstance(ply_path, str) and ply_path:
        [found] = files.find([ply_path], POINT_FILES)

        def read_scaled() -> SeedPoints | None:
            points = read_ply_points(found)
            return None if points is None else (applied_scale * points[0], points[1])

        return read_scaled
    is_certain = meta.get("applied_transform") is not None

    def read() -> SeedPoints | None:
        for model in models:
            from_model = transform_from_model(model, frames, applied_scale * applied_transform, is_certain)
            if from_model is not None:
                return read_colmap_points(model, from_model)
        if models:
            warn(f"the COLMAP model in {models[0]} has other cameras than transforms.json, so its points are not used")
        return None

    return read
