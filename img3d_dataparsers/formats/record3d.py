# SPDX-License-Identifier: Apache-2.0
"""Reads a recording of the iOS app Record3D through Nerfstudio's own converter, and adds the intrinsics it leaves out.

Two exports are alike: "EXR + JPG sequence" (`rgb/0.jpg`, …, `metadata.json`) and an unpacked `.r3d` archive
(`rgbd/0.jpg`, …, `metadata`). The metadata has, by its author at https://github.com/marek-simonik/record3d/issues
(27, 36, 64, 83, 99): `poses`, one row per frame, a quaternion (x, y, z, w) and a position, camera to world with
OpenGL axes; `K`, column by column, the intrinsics of the first frame for photos of `w` x `h` pixels; in newer versions
`perFrameIntrinsicCoeffs`, rows of fx, fy, cx, cy (the stabiliser shifts the principal point from frame to frame).
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from img3d_base.errors import InputError
from img3d_dataparsers.file_resolver import FileResolver
from img3d_dataparsers.formats.capture_files import finite_numbers, load_json, may_hold, photos_in
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.formats.transforms_json import load_meta
from img3d_dataparsers.posed_photos import PosedPhotos

METADATA_NAMES = ("metadata.json", "metadata")
PHOTO_FOLDERS = ("rgb", "rgbd")


def is_record3d(folder: Path) -> bool:
    """Whether a folder has the app's metadata file, a name that others use too, and its folder of photos."""
    return any(may_hold(folder / name, "poses") for name in METADATA_NAMES) and any(
        (folder / name).is_dir() for name in PHOTO_FOLDERS
    )


def read_record3d(folder: Path) -> PosedPhotos:
    """Reads the cameras; photos are numbered, and belong to the pose of their number.

    Raises:
        InputError: there are no photos, fewer poses than photos, or the metadata is damaged.
    """
    path = next(folder / name for name in METADATA_NAMES if may_hold(folder / name, "poses"))
    metadata = load_json(path)
    photos = next(filter(None, (_numbered_photos(folder / name) for name in PHOTO_FOLDERS)), [])
    if not photos:
        raise InputError(f"{path} has cameras, but there are no numbered photos (0.jpg, …) in {folder / 'rgb'}")
    poses = metadata.get("poses")
    if not isinstance(poses, list) or not poses:
        raise InputError(
            f"{path} has no poses, which Record3D records with the LiDAR camera only: "
            f"give --data {photos[0].parent} to solve for them"
        )
    for i, pose in enumerate(poses):
        if not finite_numbers(pose, 7, f"pose {i}", path)[:4].any():
            raise InputError(f"{path}: the rotation of pose {i} is all zeros; the phone lost track, record it again")
    for key in ("w", "h"):
        finite_numbers([metadata.get(key)], 1, key, path)
    shared = finite_numbers(metadata.get("K"), 9, "K", path)[[0, 4, 6, 7]]

    numbers = _pose_numbers(photos, len(poses), path)
    meta = _converted(metadata, photos, numbers)
    per_frame = metadata.get("perFrameIntrinsicCoeffs")
    per_frame = per_frame if isinstance(per_frame, list) and len(per_frame) == len(poses) else None
    for frame, photo, number in zip(meta["frames"], photos, numbers, strict=True):
        frame["file_path"] = photo.relative_to(folder).as_posix()
        coefficients = shared
        if per_frame is not None:
            coefficients = finite_numbers(per_frame[number], 4, f"perFrameIntrinsicCoeffs {number}", path)
        frame.update(zip(("fl_x", "fl_y", "cx", "cy"), coefficients.tolist(), strict=True))
    return PosedPhotos(source=path, folder=folder, frames=frames_of_meta(meta, FileResolver(folder)))


def _numbered_photos(folder: Path) -> list[Path]:
    # Copies such as "123(3).jpg" are left out, as ns-process-data does.
    return sorted((photo for photo in photos_in(folder) if photo.stem.isdecimal()), key=lambda photo: int(photo.stem))


def _pose_numbers(photos: list[Path], poses: int, path: Path) -> list[int]:
    """The row of `poses` for each photo: its number, or its rank where no photo is missing (some count from 1)."""
    numbers = [int(photo.stem) for photo in photos]
    if len(photos) == poses:
        return list(range(poses))
    if numbers[-1] >= poses:
        raise InputError(f"{path} has {poses} poses, but there is a photo {photos[-1]}; export the recording again")
    return numbers


def _converted(metadata: dict[str, Any], photos: list[Path], numbers: list[int]) -> dict[str, Any]:
    from nerfstudio.process_data.record3d_utils import record3d_to_json

    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "metadata.json"  # the converter insists on the suffix, which .r3d archives leave out
        path.write_text(json.dumps(metadata), encoding="utf-8")
        record3d_to_json(photos, path, Path(scratch), np.array(numbers))
        return load_meta(Path(scratch) / "transforms.json")
