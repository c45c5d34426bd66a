# SPDX-License-Identifier: Apache-2.0
"""Reads a COLMAP reconstruction through Nerfstudio's own reader of its text and binary files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from img3d_dataparsers.errors import InputError, warn
from img3d_dataparsers.formats.meta_frames import frames_of_meta
from img3d_dataparsers.posed_photos import FloatArray, PosedPhotos, SeedPoints

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParser

READ_ERRORS = (AssertionError, IndexError, KeyError, NotImplementedError, OSError, ValueError, struct.error)
"""What Nerfstudio's COLMAP reader raises on missing, truncated or unsupported files."""


def find_reconstruction(folder: Path) -> Path | None:
    """The folder of the COLMAP model in a data set, where ns-process-data and COLMAP itself put it."""
    for name in ("colmap/sparse/0", "sparse/0", "sparse"):
        if any((folder / name / f"cameras{suffix}").is_file() for suffix in (".txt", ".bin")):
            return folder / name
    return None


def read_colmap(folder: Path, reconstruction: Path) -> PosedPhotos:
    """Reads the cameras of a COLMAP model whose photos lie in `folder/images`.

    Args:
        folder: the data set.
        reconstruction: the folder with cameras, images and points3D as `.txt` or `.bin`.

    Raises:
        InputError: the model cannot be read, or has a camera model that Nerfstudio does not know.
    """
    try:
        meta = _reader(folder)._get_all_images_and_cameras(reconstruction)
    except READ_ERRORS as error:
        raise InputError(f"the COLMAP model in {reconstruction} cannot be read: {error or type(error).__name__}") from (
            error
        )
    applied_transform = np.asarray(meta["applied_transform"], dtype=np.float64)
    return PosedPhotos(
        source=reconstruction,
        folder=folder,
        frames=sorted(frames_of_meta(meta, folder), key=lambda frame: frame.image_path),
        applied_transform=applied_transform,
        read_seed_points=lambda: read_colmap_points(reconstruction, applied_transform),
    )


def read_colmap_points(reconstruction: Path, applied_transform: FloatArray) -> SeedPoints | None:
    """The model's 3D points in the coordinates that `applied_transform` `[3, 4]` leads to, with their colours."""
    try:
        points = _reader(reconstruction)._load_3D_points(
            reconstruction, torch.from_numpy(applied_transform).float(), scale_factor=1.0
        )
    except READ_ERRORS as error:
        warn(f"the 3D points in {reconstruction} cannot be read ({error}); training starts from random points")
        return None
    return points["points3D_xyz"].double().numpy(), points["points3D_rgb"].numpy()


def _reader(folder: Path) -> ColmapDataParser:
    # Imported late: it drags in Nerfstudio's data processing, which most data sets never need.
    from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParser, ColmapDataParserConfig

    return ColmapDataParser(ColmapDataParserConfig(data=folder))
