# SPDX-License-Identifier: Apache-2.0
"""antimatter15's .splat: 32 bytes per Gaussian, without spherical harmonics; web viewers show it while it loads.

A table without a header, in order of importance: https://github.com/antimatter15/splat (`convert.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from img3d_assets.gaussians import Gaussians
from img3d_assets.quantised import LOGITS_OF_BYTES, bytes_of, unit_quats
from img3d_assets.splat_formats.counts import check_count
from img3d_base.errors import InputError
from img3d_base.foreign_files import open_regular
from img3d_kernels.spherical_harmonics import rgb_to_sh

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("quat", "u1", 4)])
TESTED_ROWS, MIN_SHARE, NORM_TOLERANCE = 1000, 0.9, 0.05
"""To recognise such a table: the number of rows tested, the share of them that must be plausible, and by how much
rounding may change the norm of their unit quaternions."""


def write(splats: Gaussians, file: BinaryIO) -> None:
    """Writes the table, the most important Gaussians first. View-dependent colour is lost."""
    splats = splats[np.argsort(-splats.importance(), kind="stable")]
    rows = np.empty(len(splats), ROW)
    rows["mean"] = splats.means
    rows["scale"] = np.exp(np.clip(splats.log_scales, -80, 80))
    rows["color"] = bytes_of(np.concatenate([splats.colors(), splats.alphas()[:, None]], axis=1))
    rows["quat"] = np.clip(np.round(unit_quats(splats.quats) * 128 + 128), 0, 255)
    file.write(rows.data)


def read(path: Path) -> Gaussians:
    """Reads the Gaussians.

    Raises:
        InputError: The file's size is not that of such a table.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size % ROW.itemsize:
            raise InputError(
                f"{path} has {size:,} bytes, not a multiple of {ROW.itemsize}: it is cut off, or another kind of file"
            )
        rows = np.memmap(file, ROW, "r", shape=check_count(size // ROW.itemsize, path))
    with np.errstate(divide="ignore", invalid="ignore"):  # log of 0: flat; of negative numbers: dropped later
        log_scales = np.log(rows["scale"])
    return Gaussians(
        rows["mean"].astype(np.float32),
        (rows["quat"].astype(np.float32) - 128) / 128,
        log_scales.astype(np.float32),
        LOGITS_OF_BYTES[rows["color"][:, 3]],
        rgb_to_sh(rows["color"][:, :3] / np.float32(255)),
        np.zeros((len(rows), 0, 3), np.float32),
    )


def looks_like(path: Path) -> bool:
    """Whether a file looks like such a table, which has no magic number: judged by its size and first rows."""
    with open_regular(path) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(TESTED_ROWS * ROW.itemsize)
    if size == 0 or size % ROW.itemsize:
        return False
    rows = np.frombuffer(start, ROW)
    lengths = np.linalg.norm((rows["quat"].astype(np.float64) - 128) / 128, axis=1)
    numbers = np.isfinite(rows["mean"]).all(axis=1) & np.isfinite(rows["scale"]).all(axis=1)
    return bool(
        np.mean(numbers & (rows["scale"] >= 0).all(axis=1) & (np.abs(lengths - 1) < NORM_TOLERANCE)) > MIN_SHARE
    )
