# SPDX-License-Identifier: Apache-2.0
"""Selecting the frames that training can use, with one warning for each kind of defect of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from img3d_base.errors import InputError, counted, some_names, warn
from img3d_dataparsers.intrinsics import Intrinsics, declared_size, implied_size, resolve_intrinsics
from img3d_dataparsers.posed_photos import FloatArray, Frame, PosedPhotos
from img3d_pictures.file_resolver import is_file
from img3d_pictures.orientation import Size, shape_difference
from img3d_pictures.photo_folders import masks_of, whole_masks
from img3d_pictures.reading import check_photos, is_turned

ROTATION_TOLERANCE = 1e-2
ASPECT_TOLERANCE = 1e-2
ROUNDING = 1e-12
"""Relative rounding error of coordinates in double precision after a few operations."""


@dataclass(frozen=True)
class UsablePhoto:
    """A photo that exists, is not damaged, and has a matching camera."""

    image_path: Path
    mask_path: Path | None
    camera_to_world: FloatArray
    """`[4, 4]`, OpenGL camera axes."""
    intrinsics: Intrinsics
    depth_path: Path | None = None
    """The depth map that the data set names, unchecked."""
    upright: bool = False
    """As `Frame.upright`."""


def usable_photos(posed: PosedPhotos, at_least: int) -> list[UsablePhoto]:
    """Checks every frame; leaves out defective ones, with one warning per kind of defect.

    Args:
        posed: The data set.
        at_least: The number of photos that must remain.

    Raises:
        InputError: Fewer remain, or all cameras are at the same place.
    """
    for assumption in posed.assumptions:
        warn(assumption)
    defects: dict[str, list[str]] = {}
    frames = posed.frames

    def leave_out(has_defect: Callable[[Frame], bool], defect: str) -> None:
        nonlocal frames
        bad = [has_defect(frame) for frame in frames]
        if any(bad):
            defects[defect] = [frame.name for frame, is_bad in zip(frames, bad, strict=True) if is_bad]
        frames = [frame for frame, is_bad in zip(frames, bad, strict=True) if not is_bad]

    seen: set[Path] = set()

    def is_repeated(frame: Frame) -> bool:
        repeated = frame.image_path in seen
        seen.add(frame.image_path)
        return repeated

    matrices = {id(frame): pose_matrix(frame.camera_to_world) for frame in frames}

    leave_out(lambda frame: frame.image_path == Path(), "have no file_path")
    leave_out(lambda frame: frame.camera_to_world is None, "have no transform_matrix")
    leave_out(lambda frame: matrices[id(frame)].shape != (4, 4), "have a transform_matrix that is not 4x4 numbers")
    leave_out(lambda frame: not _is_finite(matrices[id(frame)]), "have NaN or infinity in transform_matrix")
    scales = {id(frame): _scale(matrices[id(frame)]) for frame in frames}
    for frame in frames:
        matrices[id(frame)] = _divided(matrices[id(frame)], scales[id(frame)])
    leave_out(
        lambda frame: not _is_rigid(matrices[id(frame)]), "have a transform_matrix that is not a rotation and a shift"
    )
    absent = [frame.image_path for frame in frames if not is_file(frame.image_path)]
    leave_out(lambda frame: not is_file(frame.image_path), "do not exist")
    leave_out(is_repeated, "are listed more than once")
    paths = [frame.image_path for frame in frames]
    sizes = dict(zip(paths, check_photos(paths), strict=True))
    for reason in sorted({size for size in sizes.values() if isinstance(size, str)}):
        leave_out(lambda frame, reason=reason: sizes[frame.image_path] == reason, f"are {reason}")

    values = {frame.image_path: _with_size(frame, sizes) for frame in frames}
    cameras = {frame.image_path: _fit(frame, values[frame.image_path], sizes) for frame in frames}
    leave_out(lambda frame: cameras[frame.image_path] is None, "have another shape than their camera (w, h)")

    total = len(posed.frames)
    sentences = [f"{len(names)} of {total} photos {defect} ({some_names(names)})" for defect, names in defects.items()]
    if len(frames) < at_least:
        why = "; ".join(sentences) or "the data set does not list more"
        if len(absent) == len(posed.frames):  # poses without pictures
            why += f": put the photos that the poses were made from into {absent[0].parent}"
        raise InputError(
            f"{posed.source}: {counted(len(frames), 'usable photo')}, at least {at_least} are needed: {why}"
        )
    for sentence in sentences:
        warn(f"{sentence}; training goes on without them")
    scaled = [frame for frame in frames if scales[id(frame)] != 1]
    if scaled:
        smallest, largest = (f"{of(scales[id(frame)] for frame in scaled):.3g}" for of in (min, max))
        warn(
            f"{len(scaled)} of {total} photos have a rotation with a scale of {smallest} "
            + (f"to {largest} " if largest != smallest else "")
            + f"({some_names([frame.name for frame in scaled])}); the scale is ignored, positions are kept"
        )

    transposed = [frame.name for frame in frames if _is_transposed(frame.camera_to_world)]
    if transposed:
        warn(
            f"{len(transposed)} of {total} photos have a transform_matrix whose last row is the position "
            f"({some_names(transposed)}): it is transposed"
        )
    resized = [frame.name for frame in frames if values[frame.image_path] != frame.intrinsics]
    if resized:
        warn(
            f"{len(resized)} of {total} photos have another size than their camera, which lacks w and h "
            f"({some_names(resized)}): its focal length is scaled so that cx and cy are near the centre"
        )

    masks = _masks(frames, [cast(Size, sizes[frame.image_path]) for frame in frames], posed.folder)
    photos = []
    for frame, mask_path in zip(frames, masks, strict=True):
        intrinsics = cameras[frame.image_path]
        assert intrinsics is not None  # frames without a camera were left out above
        photos.append(
            UsablePhoto(frame.image_path, mask_path, matrices[id(frame)], intrinsics, frame.depth_path, frame.upright)
        )
    _check_parallax(posed, photos, at_least)
    return photos


def pose_matrix(value: Any) -> FloatArray:
    """Converts a 3x4 or 4x4 matrix to `[4, 4]`; returns an empty array if it is something else.

    The numbers may be in one list, row by row. A 4x4 matrix that is stored column by column is transposed.
    """
    matrix = _numbers(value)
    if matrix.shape not in ((3, 4), (4, 4)):
        return np.empty(0)
    if _is_transposed(matrix):
        matrix = matrix.T
    return np.vstack([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])


def _numbers(value: Any) -> FloatArray:
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        return np.empty(0)
    return matrix.reshape(-1, 4) if matrix.shape in ((12,), (16,)) else matrix


def _is_transposed(value: Any) -> bool:
    """Whether the position of a 4x4 pose is in its last row, as in files of programs that store columns."""
    matrix = _numbers(value)
    return matrix.shape == (4, 4) and bool(matrix[3, :3].any()) and np.array_equal(matrix[:, 3], [0.0, 0.0, 0.0, 1.0])


def _is_finite(matrix: FloatArray) -> bool:
    """Numbers beyond 1e12 count as infinite: they overflow float32 when they are squared a few times."""
    return bool((np.abs(matrix) < 1e12).all())


def _scale(matrix: FloatArray) -> float:
    """The scale of a scaled rotation; 1 if it is within the tolerance, or if the matrix is not a scaled rotation."""
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    scale = float(lengths.mean())
    # Half, as `_is_rigid` compares the squared length.
    within = abs(scale - 1) <= ROTATION_TOLERANCE / 2
    return 1.0 if within or scale == 0 or not _is_rigid(_divided(matrix, scale)) else scale


def _divided(matrix: FloatArray, scale: float) -> FloatArray:
    """The pose with its rotation divided by a scale; the position is kept."""
    return np.concatenate([matrix[:, :3] / [[scale], [scale], [scale], [1.0]], matrix[:, 3:]], axis=1)


def _is_rigid(matrix: FloatArray) -> bool:
    rotation = matrix[:3, :3]
    is_orthonormal = np.abs(rotation.T @ rotation - np.eye(3)).max() <= ROTATION_TOLERANCE
    return bool(is_orthonormal and np.linalg.det(rotation) > 0)


def _with_size(frame: Frame, sizes: dict[Path, Size | str]) -> dict[str, Any]:
    """The frame's intrinsics, with the size that they imply if they lack one and the photo has another."""
    stored = sizes[frame.image_path]
    assert not isinstance(stored, str)  # others were left out
    size = implied_size(frame.intrinsics, *stored, frame.name)
    return frame.intrinsics if size is None else {**frame.intrinsics, "w": size[0], "h": size[1]}


def _fit(frame: Frame, values: dict[str, Any], sizes: dict[Path, Size | str]) -> Intrinsics | None:
    """The camera with these intrinsics at the size of its photo; None if their shapes differ."""
    stored = sizes[frame.image_path]
    assert not isinstance(stored, str)  # others were left out
    width, height = stored
    declared = declared_size(values, frame.name)
    if declared is not None:
        if is_turned(frame.image_path, *declared, upright=frame.upright):
            width, height = height, width
        # One pixel of tolerance: tools round differently when they resize photos.
        slack = ASPECT_TOLERANCE + 1 / min(width, height)
        if shape_difference((width, height), declared) > slack:
            return None
    return resolve_intrinsics(values, width, height, frame.name)


def _masks(frames: list[Frame], sizes: list[Size], folder: Path) -> list[Path | None]:
    """The mask of each frame: the one that it names, else one found beside the photos."""
    unnamed = [frame.image_path for frame in frames if frame.mask_path is None]
    beside = dict(zip(unnamed, masks_of(unnamed, folder, [frame.image_path for frame in frames]), strict=True))
    masks = [frame.mask_path or beside[frame.image_path] for frame in frames]
    return whole_masks(masks, [frame.image_path for frame in frames], sizes, [frame.name for frame in frames])


def _check_parallax(posed: PosedPhotos, photos: list[UsablePhoto], at_least: int) -> None:
    origins = np.stack([photo.camera_to_world[:3, 3] for photo in photos])
    extent = np.abs(origins - origins[0]).max()
    # Relative to the coordinates: georeferenced cameras are metres apart, but millions of metres from the origin.
    if at_least > 1 and extent <= ROUNDING * np.abs(origins).max():
        raise InputError(
            f"{posed.source}: all {len(photos)} cameras are at the same place; reconstruction needs parallax, "
            "so photograph the subject from several places"
        )
