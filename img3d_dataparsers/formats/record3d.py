# SPDX-License-Identifier: Apache-2.0
"""Reading recordings of the iOS app Record3D.

Two exports have the same structure: "EXR + JPG sequence" (`rgb/0.jpg`, …, `metadata.json`) and an unpacked `.r3d`
archive (`rgbd/0.jpg`, …, `metadata`). The metadata has, by its author at
https://github.com/marek-simonik/record3d/issues (27, 36, 64, 83, 99): `poses`, one row per frame, a quaternion (x, y,
z, w) and a position, camera to world with OpenGL axes; `K`, column by column, the intrinsics of the first frame for
photos of `w` x `h` pixels; in newer versions `perFrameIntrinsicCoeffs`, rows of fx, fy, cx, cy (the stabiliser shifts
the principal point from frame to frame).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError, counted
from img3d_dataparsers.formats.capture_files import ARKIT_SCALE, finite_numbers, load_json, may_hold, photos_in
from img3d_dataparsers.posed_photos import Frame, PosedPhotos
from img3d_pictures.file_resolver import FileResolver

METADATA_NAMES = ("metadata.json", "metadata")
PHOTO_FOLDERS = ("rgb", "rgbd")


def is_record3d(folder: Path) -> bool:
    """Whether a folder has the app's metadata file, whose name other tools use too, and its folder of photos."""
    files = FileResolver(folder)
    return any(may_hold(files.named(name), "poses") for name in METADATA_NAMES) and any(
        files.named(name).is_dir() for name in PHOTO_FOLDERS
    )


def read_record3d(folder: Path) -> PosedPhotos:
    """Reads the cameras; a photo's name is the number of its pose.

    Raises:
        InputError: There are no photos, fewer poses than photos, or the metadata is damaged.
    """
    files = FileResolver(folder)
    path = next(path for path in map(files.named, METADATA_NAMES) if may_hold(path, "poses"))
    metadata = load_json(path)
    photos = next(filter(None, (_numbered_photos(files.named(name)) for name in PHOTO_FOLDERS)), [])
    if not photos:
        raise InputError(f"{path} has cameras, but there are no numbered photos (0.jpg, …) in {folder / 'rgb'}")
    poses = metadata.get("poses")
    if not isinstance(poses, list) or not poses:
        raise InputError(
            f"{path} has no poses, which Record3D records only with the LiDAR camera: "
            f"give --data {photos[0].parent} to solve for them"
        )
    rows = np.stack([finite_numbers(pose, 7, f"pose {i}", path) for i, pose in enumerate(poses)])
    lost = np.flatnonzero(~rows[:, :4].any(axis=1))
    if len(lost):
        raise InputError(f"{path}: the rotation of pose {lost[0]} is all zeros; the phone lost track, record it again")
    # Scaled so that the squares neither underflow nor overflow.
    quaternions = rows[:, :4] / np.abs(rows[:, :4]).max(axis=1, keepdims=True)
    matrices = np.concatenate([Rotation.from_quat(quaternions).as_matrix(), rows[:, 4:, None]], axis=2)
    size = [float(finite_numbers([metadata.get(name)], 1, name, path)[0]) for name in ("w", "h")]
    shared = finite_numbers(metadata.get("K"), 9, "K", path)[[0, 4, 6, 7]]

    numbers = _pose_numbers(photos, len(poses), path)
    per_frame = metadata.get("perFrameIntrinsicCoeffs")
    per_frame = per_frame if isinstance(per_frame, list) and len(per_frame) == len(poses) else None
    frames = []
    for photo, number in zip(photos, numbers, strict=True):
        coefficients = shared
        if per_frame is not None:
            coefficients = finite_numbers(per_frame[number], 4, f"perFrameIntrinsicCoeffs {number}", path)
        values = np.concatenate([coefficients, size]).tolist()
        frames.append(
            Frame(
                name=photo.relative_to(folder).as_posix(),
                image_path=photo,
                camera_to_world=matrices[number],
                intrinsics=dict(zip(("fl_x", "fl_y", "cx", "cy", "w", "h"), values, strict=True)),
            )
        )
    return PosedPhotos(
        source=path, folder=folder, frames=frames, assumptions=files.assumptions, scale_source=ARKIT_SCALE
    )


def _numbered_photos(folder: Path) -> list[Path]:
    # Copies such as "123(3).jpg" are left out, as ns-process-data does.
    return sorted((photo for photo in photos_in(folder) if photo.stem.isdecimal()), key=lambda photo: int(photo.stem))


def _pose_numbers(photos: list[Path], poses: int, path: Path) -> list[int]:
    """The row of `poses` for each photo: its rank if no photo is missing (some count from 1), else its number."""
    numbers = [int(photo.stem) for photo in photos]
    if len(photos) == poses:
        return list(range(poses))
    if numbers[-1] >= poses:
        raise InputError(
            f"{path} has {counted(poses, 'pose')}, but there is a photo {photos[-1]}; export the recording again"
        )
    return numbers
