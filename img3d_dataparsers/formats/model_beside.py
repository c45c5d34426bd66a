# SPDX-License-Identifier: Apache-2.0
"""A COLMAP model beside poses of another format: whether they are the same cameras, and in which worlds.

Tools that convert a model move, turn and scale its world (Instant-NGP's colmap2nerf all three), or belong to another
reconstruction of the same photos. Which, the cameras tell: those of one name are in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError
from img3d_dataparsers.formats.colmap_model import ModelImage, read_images
from img3d_dataparsers.posed_photos import FloatArray, Frame
from img3d_dataparsers.usable_photos import pose_matrix

MIN_PHOTOS = 3
"""In common, for a similarity to mean anything."""
MAX_ANGLE, MAX_DISTANCE = 2.0, 0.02
"""Between a camera and where it should be: degrees, and a share of the cameras' extent. Files are rounded, and some
tools refine a few poses."""
MIN_SHARE = 0.8
"""Of the photos in common that must be within both."""
ROUNDING = 1e-3
"""Share of the cameras' extent that two transforms of one meaning may differ by."""


def transform_from_model(
    reconstruction: Path, frames: Sequence[Frame], expected: FloatArray, is_certain: bool
) -> FloatArray | None:
    """From a COLMAP model's world to that of frames, `[3, 4]`: a rotation, a scale and a shift.

    Args:
        reconstruction: the folder of the model.
        frames: as a data set describes them, nothing checked.
        expected: `[3, 4]`, what the transform should be; returned itself where the cameras say the same.
        is_certain: whether it is to be returned, too, where too few photos have a name in common to tell.

    Returns:
        None if the cameras are not the same ones.
    """
    try:
        images = read_images(reconstruction)
    except InputError:
        images = []
    pairs = _same_photos(images, frames)
    if len(pairs) < MIN_PHOTOS:
        return expected if is_certain else None
    in_model, in_frames = (np.stack(poses) for poses in zip(*pairs, strict=True))
    found = _similarity(in_model, in_frames)
    if found is None:
        return None
    centres = in_model[:, :, 3]
    differences = np.linalg.norm(_moved(found, centres) - _moved(expected, centres), axis=1)
    return expected if np.median(differences) <= ROUNDING * _extent(in_frames) else found


def _same_photos(images: Sequence[ModelImage], frames: Sequence[Frame]) -> list[tuple[FloatArray, FloatArray]]:
    """Poses `[3, 4]` of the same photo in the model and in the frames, OpenGL camera axes, by their names' ends."""
    by_end: dict[tuple[str, ...], Frame | None] = {}
    for frame in frames:
        for end in _ends(frame.name):
            by_end[end] = None if end in by_end else frame  # None: of several photos
    pairs = []
    for image in images:
        named = (by_end.get(end) for end in _ends(image.name))
        frame = next((frame for frame in named if frame is not None), None)
        matrix = pose_matrix(None if frame is None else frame.camera_to_world)
        rotation, translation = image.world_to_camera[:, :3], image.world_to_camera[:, 3]
        if matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.isfinite(rotation).all():
            lengths = np.linalg.norm(matrix[:3, :3], axis=0)
            if (lengths > 0).all():
                in_model = np.column_stack([rotation.T * [1.0, -1.0, -1.0], -rotation.T @ translation])
                pairs.append((in_model, np.column_stack([matrix[:3, :3] / lengths, matrix[:3, 3]])))
    return pairs


def _ends(name: str) -> list[tuple[str, ...]]:
    """`a/b/c.jpg` as (a, b, c), (b, c) and (c,), in small letters: suffixes and folders change."""
    parts = PurePosixPath(name.replace("\\", "/").casefold()).parts
    parts = (*parts[:-1], PurePath(parts[-1]).stem) if parts else ()
    return [parts[i:] for i in range(len(parts))]


def _similarity(in_model: FloatArray, in_frames: FloatArray) -> FloatArray | None:
    """The rotation, scale and shift `[3, 4]` between poses `[N, 3, 4]` of the same cameras; None if there is none.

    The rotation comes from the cameras' axes, so that centres on one line suffice.
    """
    turns = in_frames[:, :, :3] @ np.swapaxes(in_model[:, :, :3], 1, 2)
    u, _, vh = np.linalg.svd(turns.sum(axis=0))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vh)]) @ vh
    before, after = in_model[:, :, 3] @ rotation.T, in_frames[:, :, 3]
    middle_before, middle_after = np.median(before, axis=0), np.median(after, axis=0)
    lengths = np.linalg.norm(before - middle_before, axis=1)
    extent = _extent(in_frames)
    if not (lengths > 0).any() or extent == 0:
        return None
    # Medians: a few poses may be anything.
    scale = float(np.median(np.linalg.norm(after - middle_after, axis=1)[lengths > 0] / lengths[lengths > 0]))
    found = np.column_stack([scale * rotation, middle_after - scale * middle_before])
    angles = np.degrees(Rotation.from_matrix(turns @ rotation.T).magnitude())
    distances = np.linalg.norm(_moved(found, in_model[:, :, 3]) - after, axis=1)
    good = (angles <= MAX_ANGLE) & (distances <= MAX_DISTANCE * extent)
    return found if good.mean() >= MIN_SHARE else None


def _extent(poses: FloatArray) -> float:
    """Of most of the cameras."""
    low, high = np.quantile(poses[:, :, 3], [0.1, 0.9], axis=0)
    return float((high - low).max())


def _moved(transform: FloatArray, points: FloatArray) -> FloatArray:
    return points @ transform[:, :3].T + transform[:, 3]
