# SPDX-License-Identifier: Apache-2.0
"""Reading the frames of a dictionary with the structure of transforms.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from img3d_base.foreign_files import shown
from img3d_dataparsers.lenses.lens import PARAMETERS
from img3d_dataparsers.posed_photos import Frame
from img3d_pictures.file_resolver import FileResolver, Kind
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_pictures.photo_folders import MASKS, PHOTOS

MAX_NAME = 1000
"""Longest path, in characters, that a message shows in full."""
DEPTH_KEYS = ("depth_file_path", "depth_path")
"""Keys of a depth map: Nerfstudio's; Instant-NGP's and NeRFCapture's."""
DEPTH_MAPS = Kind("depth maps", (".npy", ".exr", ".pfm", *IMAGE_SUFFIXES))
_NAMED = (
    *("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y", "camera_model", "is_fisheye"),
    *("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2", "distortion_params"),
)
INTRINSICS = (*_NAMED, *sorted({key for keys in PARAMETERS.values() for key in keys.split()} - {"f", *_NAMED}))


def frames_of_meta(meta: dict[str, Any], files: FileResolver) -> list[Frame]:
    """Reads the frames of a transforms file, each with its intrinsics.

    Args:
        meta: The parsed file; a frame's values take precedence over values for the whole file.
        files: Finds the files that it names.
    """
    shared = {key: meta[key] for key in INTRINSICS if meta.get(key) is not None}
    frames = meta["frames"]
    photos, masks, depth_maps = (
        _files_named(frames, keys, files, kind)
        for keys, kind in ((("file_path",), PHOTOS), (("mask_path",), MASKS), (DEPTH_KEYS, DEPTH_MAPS))
    )
    return [
        Frame(
            name=f"frame {i}" if photo is None else _on_one_line(frame["file_path"]),
            image_path=Path() if photo is None else photo,
            camera_to_world=frame.get("transform_matrix"),
            intrinsics={**shared, **{key: frame[key] for key in INTRINSICS if frame.get(key) is not None}},
            mask_path=mask,
            depth_path=depth_map,
        )
        for i, (frame, photo, mask, depth_map) in enumerate(zip(frames, photos, masks, depth_maps, strict=True))
    ]


def _files_named(
    frames: list[dict[str, Any]], keys: Sequence[str], files: FileResolver, kind: Kind
) -> list[Path | None]:
    """The file that each frame names under the first of the keys that it has; None if it has none."""
    values = [next((frame[key] for key in keys if key in frame), None) for frame in frames]
    names = [name if isinstance(name, str) and name else None for name in values]
    given = [name for name in names if name is not None]
    paths = dict(zip(given, files.find(given, kind), strict=True))
    return [None if name is None else paths[name] for name in names]


def _on_one_line(name: str) -> str:
    return name if name.isprintable() and len(name) <= MAX_NAME else shown(name)
