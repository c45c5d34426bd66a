# SPDX-License-Identifier: Apache-2.0
"""antimatter15's .splat: 32 bytes a Gaussian, without spherical harmonics; web viewers show it while it arrives.

A table without a header, in the order of importance: https://github.com/antimatter15/splat (`convert.py`). NumPy is
all that it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from img3d_assets.quantised import bytes_of, logits
from img3d_methods.initial_gaussians import SH_C0
from img3d_methods.splats import Splats

ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("color", "u1", 4), ("quat", "u1", 4)])


def write(splats: Splats, file: BinaryIO) -> None:
    """Those that matter most first. What depends on the view is lost."""
    splats = splats[np.argsort(-splats.importance(), kind="stable")]
    rows = np.empty(len(splats), ROW)
    rows["mean"] = splats.means
    rows["scale"] = np.exp(np.clip(splats.log_scales, -80, 80))
    rows["color"] = bytes_of(np.concatenate([splats.colors(), splats.alphas()[:, None]], axis=1))
    quats = splats.quats / np.linalg.norm(splats.quats, axis=1, keepdims=True)
    rows["quat"] = np.clip(np.round(quats * 128 + 128), 0, 255)
    file.write(rows.data)


def read(path: Path) -> Splats:
    """The Gaussians.

    Raises:
        ValueError: It cannot be such a table.
    """
    contents = path.read_bytes()
    if len(contents) % ROW.itemsize:
        raise ValueError(f"its size is no multiple of {ROW.itemsize} bytes: it is cut off, or another kind of file")
    rows = np.frombuffer(contents, ROW)
    colors = rows["color"] / 255
    with np.errstate(divide="ignore", invalid="ignore"):  # such Gaussians are left out later, with other bad ones
        log_scales = np.log(rows["scale"])
    return Splats(
        rows["mean"].astype(np.float32),
        ((rows["quat"].astype(np.float32) - 128) / 128),
        log_scales.astype(np.float32),
        logits(colors[:, 3]).astype(np.float32),
        ((colors[:, :3] - 0.5) / SH_C0).astype(np.float32),
        np.zeros((len(rows), 0, 3), np.float32),
    )
