# SPDX-License-Identifier: Apache-2.0
"""The frames of a transforms.json-like dictionary, which is also what Nerfstudio's COLMAP reader returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from img3d_dataparsers.photo_files import IMAGE_SUFFIXES, is_file
from img3d_dataparsers.posed_photos import Frame

INTRINSICS = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye"),
    *("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "distortion_params"),
)


def frames_of_meta(meta: dict[str, Any], folder: Path) -> list[Frame]:
    """The frames of a transforms file, each with the intrinsics that hold for it.

    Args:
        meta: the parsed file; values in a frame win over values for the whole file.
        folder: the folder that file paths are relative to.
    """
    shared = {key: meta[key] for key in INTRINSICS if meta.get(key) is not None}
    frames = []
    for i, frame in enumerate(meta["frames"]):
        file_path = frame.get("file_path")
        named = isinstance(file_path, str) and file_path != ""
        mask_path, depth_path = frame.get("mask_path"), frame.get("depth_file_path")
        frames.append(
            Frame(
                name=file_path if named else f"frame {i}",
                image_path=find_image(folder, file_path) if named else Path(),
                camera_to_world=frame.get("transform_matrix"),
                intrinsics={**shared, **{key: frame[key] for key in INTRINSICS if frame.get(key) is not None}},
                mask_path=folder / mask_path if isinstance(mask_path, str) and mask_path else None,
                depth_path=folder / depth_path if isinstance(depth_path, str) and depth_path else None,
            )
        )
    return frames


def find_image(folder: Path, file_path: str) -> Path:
    """The photo that `file_path` means: Instant-NGP and NeRF-synthetic may leave out the suffix."""
    path = folder / file_path
    if not path.name or path.suffix.lower() in IMAGE_SUFFIXES or is_file(path):
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES]
    return next((candidate for candidate in candidates if is_file(candidate)), candidates[0])
