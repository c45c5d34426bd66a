# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas's compressed PLY: Gaussians in chunks of 256, each value a few bits between its chunk's extremes.

16 bytes a Gaussian, and one more for each spherical harmonics coefficient; a 3DGS PLY has four times as many. The
layout is documented at https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/ply/ and by its reader,
the engine's `gsplat-compressed-data.js`. Ours, and plyfile to read: gsply (PyPI) has it too, but Numba comes with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import plyfile
from jaxtyping import Float, Float32, UInt32

from img3d_assets.quantised import from_smallest_three, levels, logits, smallest_three
from img3d_exporters.morton import morton_order
from img3d_methods.initial_gaussians import SH_C0
from img3d_methods.splats import SH_COEFFICIENTS, Splats

CHUNK = 256
LARGEST_LOG_SCALE = 20.0
"""The format's own limit, on both sides."""
BOUNDS = {"means": ("x", "y", "z"), "scales": ("scale_x", "scale_y", "scale_z"), "colors": ("r", "g", "b")}
"""What the extremes of each chunk are called, after min_ and max_."""
MEAN_BITS, ROTATION_BITS, SCALE_BITS, COLOR_BITS = (11, 10, 11), (10, 10, 10), (11, 10, 11), (8, 8, 8, 8)


def write(splats: Splats, file: BinaryIO) -> None:
    """The file of `compressed_ply`."""
    file.write(compressed_ply(splats))


def compressed_ply(splats: Splats) -> bytes:
    """The file's bytes. Neighbours in space come one after another, so that chunks are small and positions precise.

    Args:
        splats: At least one, all finite.
    """
    splats = splats[morton_order(splats.means)]
    log_scales = splats.log_scales.clip(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    ranges = [splats.means, log_scales, splats.colors()]
    extremes = [_extremes(values) for values in ranges]
    chunks = np.concatenate([bound for pair in extremes for bound in pair], axis=1)  # [C, 18]
    means, scales, colors = (_within(values, *pair) for values, pair in zip(ranges, extremes, strict=True))
    largest, others = smallest_three(splats.quats)
    vertices = np.stack(
        [
            _pack(means, MEAN_BITS),
            (largest.astype(np.uint32) << np.uint32(30)) | _pack(others / np.sqrt(2) + 0.5, ROTATION_BITS),
            _pack(scales, SCALE_BITS),
            _pack(np.concatenate([colors, splats.alphas()[:, None]], axis=1), COLOR_BITS),
        ],
        axis=1,
    )
    # A coefficient is one of 256 equal steps from -4 to 4; one channel comes after another, as in the 3DGS PLY.
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)
    rest = np.clip(np.floor((rest / 8 + 0.5) * 256), 0, 255).astype(np.uint8)

    bounds = [f"{end}_{name}" for names in BOUNDS.values() for end in ("min", "max") for name in names]
    packed = [f"packed_{name}" for name in ("position", "rotation", "scale", "color")]
    header = ["ply", "format binary_little_endian 1.0", "comment Written by img3d"]
    header += [f"element chunk {len(chunks)}", *(f"property float {name}" for name in bounds)]
    header += [f"element vertex {len(splats)}", *(f"property uint {name}" for name in packed)]
    if rest.shape[1]:
        header += [f"element sh {len(splats)}", *(f"property uchar f_rest_{i}" for i in range(rest.shape[1]))]
    header += ["end_header", ""]
    return b"".join(
        ["\n".join(header).encode(), chunks.astype("<f4").tobytes(), vertices.astype("<u4").tobytes(), rest.tobytes()]
    )


def read(path: Path) -> Splats:
    """The Gaussians.

    Raises:
        ValueError: It is another kind of PLY; or what plyfile raises on damaged ones.
    """
    ply = plyfile.PlyData.read(path)
    if not {"chunk", "vertex"} <= {element.name for element in ply.elements}:
        raise ValueError("it is no compressed PLY: it has no chunks")
    vertices, chunks = ply["vertex"].data, ply["chunk"].data
    num = len(vertices)
    chunk = np.arange(num) // CHUNK
    if num > CHUNK * len(chunks):
        raise ValueError(f"it has {len(chunks)} chunks for {num} Gaussians")

    def fractions(name: str, bits: tuple[int, ...]) -> Float[np.ndarray, "N D"]:
        return _unpack(np.asarray(vertices[f"packed_{name}"]).astype(np.uint32), bits)

    def between(values: Float[np.ndarray, "N 3"], names: tuple[str, ...]) -> Float32[np.ndarray, "N 3"]:
        low, high = (
            np.stack([np.asarray(chunks[f"{end}_{name}"], np.float64) for name in names], axis=1)
            for end in ("min", "max")
        )
        return (low[chunk] + values * (high - low)[chunk]).astype(np.float32)

    others = (fractions("rotation", (2, *ROTATION_BITS))[:, 1:] - 0.5) * np.sqrt(2)
    largest = np.asarray(vertices["packed_rotation"]).astype(np.uint32) >> np.uint32(30)
    colors = fractions("color", COLOR_BITS)
    alphas, colors = colors[:, 3], colors[:, :3]
    if "min_r" in chunks.dtype.names:  # older files have colours from 0 to 1
        colors = between(colors, BOUNDS["colors"])
    return Splats(
        between(fractions("position", MEAN_BITS), BOUNDS["means"]),
        from_smallest_three(largest, others).astype(np.float32),
        between(fractions("scale", SCALE_BITS), BOUNDS["scales"]),
        logits(alphas).astype(np.float32),
        ((colors - 0.5) / SH_C0).astype(np.float32),
        _harmonics(ply, num),
    )


def _harmonics(ply: plyfile.PlyData, num: int) -> Float32[np.ndarray, "N K 3"]:
    if "sh" not in ply:
        return np.zeros((num, 0, 3), np.float32)
    columns = ply["sh"].data
    count = len(columns.dtype.names) // 3
    if count not in SH_COEFFICIENTS.values() or len(columns) != num:
        raise ValueError(
            f"it has {len(columns)} times {3 * count} spherical harmonics coefficients for {num} Gaussians"
        )
    steps = np.stack([np.asarray(columns[f"f_rest_{i}"], np.float32) for i in range(3 * count)], axis=1)
    fractions = np.where(steps == 0, 0, np.where(steps == 255, 1, (steps + 0.5) / 256))
    return (8 * fractions - 4).reshape(num, 3, count).transpose(0, 2, 1).astype(np.float32)


def _extremes(values: Float[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "C D"]]:
    starts = np.arange(0, len(values), CHUNK)
    return np.minimum.reduceat(values, starts, axis=0), np.maximum.reduceat(values, starts, axis=0)


def _within(
    values: Float[np.ndarray, "N D"], low: Float[np.ndarray, "C D"], high: Float[np.ndarray, "C D"]
) -> Float[np.ndarray, "N D"]:
    """Each value's place between the extremes of its chunk, in [0, 1]."""
    chunk = np.arange(len(values)) // CHUNK
    extent = high.astype(np.float64) - low
    return (values - low[chunk]) / np.where(extent > 0, extent, 1)[chunk]


def _pack(values: Float[np.ndarray, "N D"], bits: tuple[int, ...]) -> UInt32[np.ndarray, "N"]:
    """Values in [0, 1], rounded to so many bits each, the first in the highest bits."""
    word = np.zeros(len(values), np.uint32)
    for column, count in enumerate(bits):
        word = (word << np.uint32(count)) | levels(values[:, column], count)
    return word


def _unpack(words: UInt32[np.ndarray, "N"], bits: tuple[int, ...]) -> Float[np.ndarray, "N D"]:
    """The inverse of `_pack`."""
    shifts = sum(bits) - np.cumsum(bits)
    fields = [(words >> np.uint32(shift)) & np.uint32(2**count - 1) for shift, count in zip(shifts, bits, strict=True)]
    return np.stack([field / (2**count - 1) for field, count in zip(fields, bits, strict=True)], axis=1)
