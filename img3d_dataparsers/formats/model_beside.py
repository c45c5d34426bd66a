# SPDX-License-Identifier: Apache-2.0
"""Comparing a COLMAP model with poses of another format: whether the cameras match, and by which transform.

Tools that convert a model translate, rotate and scale its world (Instant-NGP's colmap2nerf does all three); or the
poses are of another reconstruction of the same photos. Comparing the cameras of photos in both tells.
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
"""Fewest photos in common for a similarity transform to be meaningful."""
MAX_ANGLE, MAX_DISTANCE = 2.0, 0.02
"""Largest error of a matching camera: in degrees, and as a share of the cameras' extent. Files are rounded, and some
tools refine a few poses."""
MIN_SHARE = 0.8
"""Smallest share of the photos in common that must match."""
ROUNDING = 1e-3
"""Largest difference, as a share of the cameras' extent, between transforms that count as equal."""


def transform_from_model(
    reconstruction: Path, frames: Sequence[Frame], expected: FloatArray, is_certain: bool
) -> FloatArray | None:
    """Similarity transform `[3, 4]` from a COLMAP model's world to that of frames.

    Args:
        reconstruction: The folder of the model.
        frames: The frames of a data set, unchecked.
        expected: The expected transform `[3, 4]`; this very object is returned if the cameras agree with it.
        is_certain: Whether to return `expected` also if too few photos have a name in common.

    Returns:
        None if the cameras are different ones.
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
    """Pairs of poses `[3, 4]` of the same photo in the model and in the frames, matched by the ends of their names."""
    by_end: dict[tuple[str, ...], Frame | None] = {}
    for frame in frames:
        for end in _ends(frame.name):
            by_end[end] = None if end in by_end else frame  # None: ambiguous
    pairs = []
    for image in images:
        named = (by_end.get(end) for end in _ends(image.name))
        frame = next((frame for frame in named if frame is not None), None)
        matrix = pose_matrix(None if frame is None else frame.camera_to_world)
        if matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.isfinite(image.world_to_camera).all():
            lengths = np.linalg.norm(matrix[:3, :3], axis=0)
            if (lengths > 0).all():
                pairs.append((image.camera_to_world, np.column_stack([matrix[:3, :3] / lengths, matrix[:3, 3]])))
    return pairs


def _ends(name: str) -> list[tuple[str, ...]]:
    """`a/b/c.jpg` as (a, b, c), (b, c) and (c,) in lower case: suffixes and folders may change."""
    parts = PurePosixPath(name.replace("\\", "/").casefold()).parts
    parts = (*parts[:-1], PurePath(parts[-1]).stem) if parts else ()
    return [parts[i:] for i in range(len(parts))]


def _similarity(in_model: FloatArray, in_frames: FloatArray) -> FloatArray | None:
    """The similarity transform `[3, 4]` between poses `[N, 3, 4]` of the same cameras; None if there is none.

    The rotation is estimated from the cameras' axes, so that collinear centres suffice.
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
    # Medians are robust against a few wrong poses.
    scale = float(np.median(np.linalg.norm(after - middle_after, axis=1)[lengths > 0] / lengths[lengths > 0]))
    found = np.column_stack([scale * rotation, middle_after - scale * middle_before])
    angles = np.degrees(Rotation.from_matrix(turns @ rotation.T).magnitude())
    distances = np.linalg.norm(_moved(found, in_model[:, :, 3]) - after, axis=1)
    good = (angles <= MAX_ANGLE) & (distances <= MAX_DISTANCE * extent)
    return found if good.mean() >= MIN_SHARE else None


def _extent(poses: FloatArray) -> float:
    """Extent of the cameras without outliers."""
    low, high = np.quantile(poses[:, :, 3], [0.1, 0.9], axis=0)
    return float((high - low).max())


def _moved(transform: FloatArray, points: FloatArray) -> FloatArray:
    return points @ transform[:, :3].T + transform[:, 3]
