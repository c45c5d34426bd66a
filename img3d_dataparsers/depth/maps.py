# SPDX-License-Identifier: Apache-2.0
"""Reading depth maps: 16-bit and floating-point pictures, .npy files, OpenEXR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from img3d_base.errors import InputError
from img3d_base.foreign_files import LFS_POINTER, NOT_FETCHED, load_npy, open_regular, require_regular
from img3d_base.text_links import followed
from img3d_dataparsers.depth.exr import read_exr
from img3d_dataparsers.posed_photos import FloatArray
from img3d_pictures.exr import MAGIC as EXR
from img3d_pictures.opening import DAMAGED

MAX_PIXELS = 1 << 25
"""Largest depth map: the size of 8K video. Depth cameras have a fiftieth of it."""
MAGICS = {".npy": b"\x93NUMPY", ".exr": EXR, ".png": b"\x89PNG", ".tif": (b"II*\0", b"MM\0*")}
"""First bytes of files, by the suffix of their format."""
BACKGROUNDS = (65504.0, 1e9)
"""Floating-point values for the background: exactly the largest half, and anything from the second value on (Blender
writes 1e10)."""


@dataclass(frozen=True)
class DepthMap:
    """The contents of a depth map."""

    values: FloatArray
    """`[H, W]`, z-depth in an unknown unit; 0 where unknown."""
    has_integers: bool
    """Whether the file holds integers, which mostly are millimetres; floats mostly are metres."""


def read_depth(path: Path) -> DepthMap:
    """Reads a depth map. Its contents decide which format it has; its name, only if they do not.

    Raises:
        InputError: It is missing, damaged, too large, or does not have a single channel.
    """
    suffix, path = path.suffix.lower(), followed(path)
    with open_regular(path) as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise InputError(f"{path} is {NOT_FETCHED}")
    kind = next((kind for kind, magics in MAGICS.items() if start.startswith(magics)), suffix)
    values = load_npy(path, 8 * MAX_PIXELS) if kind == ".npy" else read_exr(path) if kind == ".exr" else _picture(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.reshape([length for length in values.shape if length != 1] or [1, 1])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif" or values.size > MAX_PIXELS:
        raise InputError(f"{path} is not a depth map: it holds {values.dtype} of shape {values.shape}")
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
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture") from error
    if pixels > MAX_PIXELS:
        raise InputError(f"{path} has {pixels:,} pixels, too many for a depth map")
    try:
        values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise InputError(f"{path} cannot be read as a picture") from error
    if values is None:
        raise InputError(f"{path} cannot be read as a depth map")
    return np.asarray(values)
