# SPDX-License-Identifier: Apache-2.0
"""Reads depth maps: 16-bit pictures, pictures of floats, NumPy's files, OpenEXR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from img3d_base.errors import InputError
from img3d_base.foreign_files import load_npy, require_regular
from img3d_base.text_links import followed
from img3d_dataparsers.depth.exr import read_exr
from img3d_dataparsers.posed_photos import FloatArray

MAX_PIXELS = 1 << 25
"""Of a depth map, which is as much as 8K video has; cameras of depth have a fiftieth of it."""
BACKGROUNDS = (65504.0, 1e9)
"""What stands for nothing in floats: the largest half, exactly, and what is beyond Blender's 1e10."""
MAX_JUMP = 0.05
"""Between neighbours, as a share of their depth: beyond it, a pixel mixes what lies before with what lies behind."""


@dataclass(frozen=True)
class DepthMap:
    """What one file holds."""

    values: FloatArray
    """`[H, W]` along the camera's axis, in a unit that no file states; 0 where unknown."""
    has_integers: bool
    """Whether the file has whole numbers: mostly millimetres, as floats are mostly metres."""


def read_depth(path: Path) -> DepthMap:
    """Reads a depth map.

    Raises:
        InputError: it is missing, damaged, too large, or no picture of one channel.
    """
    suffix, path = path.suffix.lower(), followed(path)
    values = (
        load_npy(path, 8 * MAX_PIXELS) if suffix == ".npy" else read_exr(path) if suffix == ".exr" else _picture(path)
    )
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.reshape([length for length in values.shape if length != 1] or [1, 1])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif" or values.size > MAX_PIXELS:
        raise InputError(f"{path} is no depth map: it holds {values.dtype} of shape {values.shape}")
    depth = values.astype(np.float64)
    usable = np.isfinite(depth) & (depth > 0)
    if values.dtype.kind == "f":
        half, beyond = BACKGROUNDS
        usable &= (depth != half) & (depth < beyond)
    depth[~usable] = 0.0
    return DepthMap(depth, values.dtype.kind != "f")


def _picture(path: Path) -> npt.NDArray[np.generic]:
    try:
        with Image.open(require_regular(path)) as image:
            pixels = image.width * image.height
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture") from error
    if pixels > MAX_PIXELS:
        raise InputError(f"{path} has {pixels:,} pixels, too many for a depth map")
    try:
        values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise InputError(f"{path} cannot be read as a picture") from error
    if values is None:
        raise InputError(f"{path} cannot be read as a picture of depths")
    return np.asarray(values)


def is_continuous(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which pixels of a depth map `[H, W]` (0: unknown) have a depth that their neighbours to all four sides share."""
    padded = np.pad(depth, 1, mode="edge")
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return (depth > 0) & (np.abs(neighbours - depth) <= MAX_JUMP * depth).all(axis=0)
