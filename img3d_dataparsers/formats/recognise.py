# SPDX-License-Identifier: Apache-2.0
"""Recognising the pose format of a folder by the names of its files and folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from img3d_base.errors import InputError
from img3d_dataparsers.formats.arkit_frames import is_arkit_frames, read_arkit_frames
from img3d_dataparsers.formats.colmap import find_reconstruction, is_reconstruction, read_colmap
from img3d_dataparsers.formats.llff import is_llff, read_llff
from img3d_dataparsers.formats.nerf_synthetic import is_nerf_synthetic, read_nerf_synthetic
from img3d_dataparsers.formats.polycam import is_polycam, read_polycam
from img3d_dataparsers.formats.record3d import is_record3d, read_record3d
from img3d_dataparsers.formats.strecha import is_strecha, read_strecha
from img3d_dataparsers.formats.transforms_json import read_transforms
from img3d_dataparsers.posed_photos import PosedPhotos
from img3d_pictures.file_resolver import FileResolver, is_file, listing

OWN_FOLDER = ".img3d"
"""The folder in which img3d caches results for a data set; it is never a data set itself."""
MACOS_FOLDER = "__MACOSX"
"""A folder of metadata in macOS' archives."""


def posed_photos_in(data: Path, split: str) -> PosedPhotos | None:
    """Reads the poses of a folder; photos are not opened.

    Data sets often have poses in several formats. Formats that are more complete, or that somebody converted the others
    to, take precedence:

    1. `transforms.json` (Nerfstudio, Instant-NGP, NeRFCapture, Luma), to which `ns-process-data` converts the others.
    2. `transforms_train.json` (NeRF-synthetic).
    3. COLMAP's `cameras`, `images` and `points3D`: intrinsics with distortion, and points. But if none of its photos
       exist and there is LLFF's file, whose reduced photos (`images_4/`) may have other names, LLFF is used.
    4. LLFF's `poses_bounds.npy`, which is derived from COLMAP.
    5. Exports of capture apps: Polycam, Record3D, 3D Scanner App.
    6. Strecha's `.camera` files.

    Args:
        data: The folder.
        split: "train", "val" or "test", for formats with a file for each.

    Returns:
        The poses, or None if the folder has none in any of these formats.

    Raises:
        InputError: There are poses, but they cannot be read.
    """
    try:
        return None if data.name == OWN_FOLDER else _read(data, split) or _read_only_folder_in(data, split)
    except OSError as error:
        raise InputError(f"{error.filename or data} cannot be read: {error.strerror or error}") from error


def _read_only_folder_in(data: Path, split: str) -> PosedPhotos | None:
    """Reads the only folder in a folder that has nothing else in it, as archives are unpacked."""
    contents = listing(data)
    names = [name for names in contents.folders.values() for name in names]
    names = [name for name in names if not name.startswith(".") and name != MACOS_FOLDER]
    if len(names) != 1 or any(not name.startswith(".") for names in contents.files.values() for name in names):
        return None
    posed = _read(data / names[0], split)
    line = f"the data set is in {data / names[0]}"
    return None if posed is None else replace(posed, assumptions=[line, *posed.assumptions])


def _read(data: Path, split: str) -> PosedPhotos | None:
    files = FileResolver(data)
    transforms = files.named("transforms.json")
    if transforms.is_file():
        posed = read_transforms(transforms)
        return replace(posed, assumptions=[*files.assumptions, *posed.assumptions])
    if is_nerf_synthetic(data):
        return read_nerf_synthetic(data, split)
    reconstruction = find_reconstruction(data) or (data if is_reconstruction(data) else None)
    if reconstruction is not None:
        posed = read_colmap(data, reconstruction)
        if not is_llff(data) or any(is_file(frame.image_path) for frame in posed.frames):
            return posed
    for recognises, read in (
        (is_llff, read_llff),
        (is_polycam, read_polycam),
        (is_record3d, read_record3d),
        (is_arkit_frames, read_arkit_frames),
        (is_strecha, read_strecha),
    ):
        if recognises(data):
            return read(data)
    return None
