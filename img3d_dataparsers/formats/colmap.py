# SPDX-License-Identifier: Apache-2.0
"""Reads a COLMAP reconstruction through Nerfstudio's own reader of its text and binary files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from img3d_base.errors import InputError, warn
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.photo_files import is_file
from img3d_dataparsers.posed_photos import FloatArray, PosedPhotos, SeedPoints

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParser

SUFFIXES = (".txt", ".bin")
READ_ERRORS = (AssertionError, IndexError, KeyError, NotImplementedError, OSError, ValueError, struct.error)
"""What Nerfstudio's COLMAP reader raises on missing, truncated or unsupported files."""


def find_reconstruction(folder: Path) -> Path | None:
    """The folder of the COLMAP model in a data set, where ns-process-data and COLMAP itself put it."""
    for name in ("colmap/sparse/0", "sparse/0", "sparse"):
        if any((folder / name / f"cameras{suffix}").is_file() for suffix in SUFFIXES):
            return folder / name
    return None


def is_reconstruction(folder: Path) -> bool:
    """Whether a model lies right in a folder, as COLMAP exports it; `cameras.txt` alone could be anything."""
    return any(all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")) for suffix in SUFFIXES)


def read_colmap(folder: Path, reconstruction: Path) -> PosedPhotos:
    """Reads the cameras of a COLMAP model whose photos lie in `folder/images`, or in the folder itself.

    Args:
        folder: the data set.
        reconstruction: the folder with cameras, images and points3D as `.txt` or `.bin`.

    Raises:
        InputError: the model cannot be read, or has a camera model that Nerfstudio does not know.
    """
    try:
        meta = _reader()._get_all_images_and_cameras(reconstruction)
        if (reconstruction / "cameras.txt").exists():  # which is when the reader takes the text files
            names = _names_in_text(reconstruction / "images.txt")
            for frame in meta["frames"]:
                frame["file_path"] = names[frame["colmap_im_id"]]
    except READ_ERRORS as error:
        raise InputError(f"the COLMAP model in {reconstruction} cannot be read: {error or type(error).__name__}") from (
            error
        )
    applied_transform = np.asarray(meta["applied_transform"], dtype=np.float64)
    photo_folder = _photo_folder(folder, [frame["file_path"] for frame in meta["frames"]])
    return PosedPhotos(
        source=reconstruction,
        folder=folder,
        frames=sorted(frames_of_meta(meta, photo_folder), key=lambda frame: frame.image_path),
        applied_transform=applied_transform,
        read_seed_points=lambda: read_colmap_points(reconstruction, applied_transform),
    )


def read_colmap_points(reconstruction: Path, applied_transform: FloatArray) -> SeedPoints | None:
    """The model's 3D points in the coordinates that `applied_transform` `[3, 4]` leads to, with their colours.

    None where it has none, which is no error: models made from known poses have no points yet.
    """
    if not any((reconstruction / f"points3D{suffix}").is_file() for suffix in SUFFIXES):
        return None
    try:
        points = _reader()._load_3D_points(
            reconstruction, torch.from_numpy(applied_transform).float(), scale_factor=1.0
        )
    except RuntimeError:  # a matrix product with no rows: the file lists no points
        return None
    except READ_ERRORS as error:
        warn(f"the 3D points in {reconstruction} cannot be read ({error}); training starts from random points")
        return None
    return points["points3D_xyz"].double().numpy(), points["points3D_rgb"].numpy()


def _names_in_text(path: Path) -> dict[int, str]:
    """The photos' names in `images.txt` by their number; Nerfstudio's reader cuts them at the first space."""
    names = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                number, *_, name = line.strip().split(maxsplit=9)
                names[int(number)] = name
                next(lines, None)  # the photo's 2D points, which may be none: an empty line
    return names


def _photo_folder(folder: Path, names: list[str]) -> Path:
    """What the names are relative to: `images/`, unless none of them is there but in the folder itself."""
    images = folder / "images"
    if not any(is_file(images / name) for name in names) and any(is_file(folder / name) for name in names):
        return folder
    return images


def _reader() -> ColmapDataParser:
    # Imported late: it drags in Nerfstudio's data processing, which most data sets never need.
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParser, ColmapDataParserConfig

    # With both folders empty, frames are named as in the model.
    return ColmapDataParser(ColmapDataParserConfig(data=Path(), images_path=Path()))
