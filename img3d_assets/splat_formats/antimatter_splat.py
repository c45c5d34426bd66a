# SPDX-License-Identifier: Apache-2.0
"""antimatter15's .splat: 32 bytes a Gaussian, without spherical harmonics; web viewers show it while it arrives.

A table without a header, in the order of importance: https://github.com/antimatter15/splat (`convert.py`). NumPy is
all that it takes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from img3d_assets.gaussians import Gaussians
from img3d_assets.quantised import LOGITS_OF_BYTES, bytes_of
from img3d_assets.splat_formats.counts import check_count
from img3d_base.errors import InputError
from img3d_base.foreign_files import open_regular
from img3d_kernels.spherical_harmonics import rgb_to_sh

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("quat", "u1", 4)])
LOOKED_AT, MOSTLY, UNIT_LENGTH = 1000, 0.9, 0.05
"""How many rows tell whether a file is such a table, which share of them has to look so, and what their quaternions'
lengths may differ from 1, which rounding makes of them."""


def write(splats: Gaussians, file: BinaryIO) -> None:
    """Those that matter most first. What depends on the view is lost."""
    splats = splats[np.argsort(-splats.importance(), kind="stable")]
    rows = np.empty(len(splats), ROW)
    rows["mean"] = splats.means
    rows["scale"] = np.exp(np.clip(splats.log_scales, -80, 80))
    rows["color"] = bytes_of(np.concatenate([splats.colors(), splats.alphas()[:, None]], axis=1))
    quats = splats.quats / np.linalg.norm(splats.quats, axis=1, keepdims=True)
    rows["quat"] = np.clip(np.round(quats * 128 + 128), 0, 255)
    file.write(rows.data)


def read(path: Path) -> Gaussians:
    """The Gaussians.

    Raises:
        InputError: It cannot be such a table.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size % ROW.itemsize:
            raise InputError(
                f"{path} has {size:,} bytes, no multiple of {ROW.itemsize}: it is cut off, or another kind of file"
            )
        rows = np.memmap(file, ROW, "r", shape=check_count(size // ROW.itemsize, path))
    with np.errstate(divide="ignore", invalid="ignore"):  # no extent along an axis: flat; less: left out later
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
    """Whether a file that has another ending can be such a table: nothing marks its beginning."""
    with open_regular(path) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(LOOKED_AT * ROW.itemsize)
    if size == 0 or size % ROW.itemsize:
        return False
    rows = np.frombuffer(start, ROW)
    lengths = np.linalg.norm((rows["quat"].astype(np.float64) - 128) / 128, axis=1)
    numbers = np.isfinite(rows["mean"]).all(axis=1) & np.isfinite(rows["scale"]).all(axis=1)
    return bool(np.mean(numbers & (rows["scale"] >= 0).all(axis=1) & (np.abs(lengths - 1) < UNIT_LENGTH)) > MOSTLY)
