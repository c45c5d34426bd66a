# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas's compressed PLY: Gaussians in chunks of 256, each value quantised between its chunk's extremes.

16 bytes per Gaussian, and one more per spherical harmonics coefficient; a 3DGS PLY has four times as many. The layout
is documented at https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/ply/ and by its reader, the
engine's `gsplat-compressed-data.js`. Our own code, because gsply (PyPI) requires Numba.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32, UInt32

from img3d_assets.gaussians import Gaussians
from img3d_assets.quantised import from_smallest_three, levels, logits, smallest_three
from img3d_assets.splat_formats.counts import check_count
from img3d_assets.splat_formats.morton import morton_order
from img3d_assets.splat_formats.ply import ANTIALIASED, is_antialiased, names_of_harmonics
from img3d_base.errors import InputError
from img3d_base.ply_tables import PlyTables
from img3d_kernels.spherical_harmonics import rgb_to_sh

CHUNK = 256
MAX_LOG_SCALE = 20.0
"""The format's limit, for both signs."""
BOUNDS = {"means": ("x", "y", "z"), "scales": ("scale_x", "scale_y", "scale_z"), "colors": ("r", "g", "b")}
"""Names of each chunk's extremes, after min_ and max_."""
PACKED = ("position", "rotation", "scale", "color")
"""Names of each Gaussian's words, after packed_."""
MEAN_BITS, ROTATION_BITS, SCALE_BITS, COLOR_BITS = (11, 10, 11), (10, 10, 10), (11, 10, 11), (8, 8, 8, 8)


def write(splats: Gaussians, file: BinaryIO) -> None:
    """Writes the file."""
    file.write(compressed_ply(splats))


def compressed_ply(splats: Gaussians) -> bytes:
    """The contents of the file. Gaussians are in Morton order, so that chunks are small and positions precise.

    Args:
        splats: At least one, all finite.
    """
    splats = splats[morton_order(splats.means)]
    log_scales = splats.log_scales.clip(-MAX_LOG_SCALE, MAX_LOG_SCALE)
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
    # Coefficients are quantised to 256 equal steps in [-4, 4], channel by channel as in the 3DGS PLY.
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)
    rest = np.clip(np.floor((rest / 8 + 0.5) * 256), 0, 255).astype(np.uint8)

    bounds = [f"{end}_{name}" for names in BOUNDS.values() for end in ("min", "max") for name in names]
    packed = [f"packed_{name}" for name in PACKED]
    header = ["ply", "format binary_little_endian 1.0", "comment Written by img3d"]
    header += [f"comment {ANTIALIASED}"] if splats.antialiased else []
    header += [f"element chunk {len(chunks)}", *(f"property float {name}" for name in bounds)]
    header += [f"element vertex {len(splats)}", *(f"property uint {name}" for name in packed)]
    if rest.shape[1]:
        header += [f"element sh {len(splats)}", *(f"property uchar f_rest_{i}" for i in range(rest.shape[1]))]
    header += ["end_header", ""]
    return b"".join(
        ["\n".join(header).encode(), chunks.astype("<f4").tobytes(), vertices.astype("<u4").tobytes(), rest.tobytes()]
    )


def is_compressed(ply: PlyTables) -> bool:
    """Whether a PLY file is a compressed one, whatever its name."""
    return "chunk" in ply.tables or "packed_position" in _names(ply.tables.get("vertex"))


def splats_of(ply: PlyTables, path: Path) -> Gaussians:
    """Decodes the Gaussians.

    Args:
        ply: The file's tables.
        path: The file, for messages.

    Raises:
        InputError: It is damaged.
    """
    vertices, chunks = ply.tables.get("vertex"), ply.tables.get("chunk")
    wanted = [f"packed_{name}" for name in PACKED]
    bounds = [f"{end}_{name}" for end in ("min", "max") for name in (*BOUNDS["means"], *BOUNDS["scales"])]
    for table, columns in ((vertices, wanted), (chunks, bounds)):
        missing = [name for name in columns if name not in _names(table)]
        if missing:
            raise InputError(f"{path} is a compressed PLY that is damaged: it has no {missing[0]}")
    assert vertices is not None and chunks is not None
    num = check_count(len(vertices), path)
    chunk = np.arange(num) // CHUNK
    if num > CHUNK * len(chunks):
        raise InputError(f"{path} is damaged: it has {len(chunks):,} chunks for {num:,} Gaussians")

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
    if "min_r" in _names(chunks):  # in older files, colours are in [0, 1]
        colors = between(colors, BOUNDS["colors"])
    return Gaussians(
        between(fractions("position", MEAN_BITS), BOUNDS["means"]),
        from_smallest_three(largest, others).astype(np.float32),
        between(fractions("scale", SCALE_BITS), BOUNDS["scales"]),
        logits(alphas).astype(np.float32),
        rgb_to_sh(colors).astype(np.float32),
        _harmonics(ply.tables.get("sh"), num, path),
        antialiased=is_antialiased(ply.comments),
    )


def _names(table: npt.NDArray[Any] | None) -> tuple[str, ...]:
    return () if table is None else table.dtype.names or ()


def _harmonics(columns: npt.NDArray[Any] | None, num: int, path: Path) -> Float32[np.ndarray, "N K 3"]:
    if columns is None:
        return np.zeros((num, 0, 3), np.float32)
    names = names_of_harmonics(_names(columns), path)
    if len(columns) != num or not set(names) <= set(_names(columns)):
        raise InputError(f"{path} is damaged: it has {len(columns):,} rows of harmonics for {num:,} Gaussians")
    if not names:
        return np.zeros((num, 0, 3), np.float32)
    steps = np.stack([np.asarray(columns[name], np.float32) for name in names], axis=1)
    fractions = np.where(steps == 0, 0, np.where(steps == 255, 1, (steps + 0.5) / 256))
    return (8 * fractions - 4).reshape(num, 3, len(names) // 3).transpose(0, 2, 1).astype(np.float32)


def _extremes(values: Float[np.ndarray, "N D"]) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "C D"]]:
    starts = np.arange(0, len(values), CHUNK)
    return np.minimum.reduceat(values, starts, axis=0), np.maximum.reduceat(values, starts, axis=0)


def _within(
    values: Float[np.ndarray, "N D"], low: Float[np.ndarray, "C D"], high: Float[np.ndarray, "C D"]
) -> Float[np.ndarray, "N D"]:
    """Maps each value to [0, 1] between the extremes of its chunk."""
    chunk = np.arange(len(values)) // CHUNK
    extent = high.astype(np.float64) - low
    return (values - low[chunk]) / np.where(extent > 0, extent, 1)[chunk]


def _pack(values: Float[np.ndarray, "N D"], bits: tuple[int, ...]) -> UInt32[np.ndarray, "N"]:
    """Packs values in [0, 1], quantised to the given numbers of bits, the first in the highest bits."""
    word = np.zeros(len(values), np.uint32)
    for column, count in enumerate(bits):
        word = (word << np.uint32(count)) | levels(values[:, column], count)
    return word


def _unpack(words: UInt32[np.ndarray, "N"], bits: tuple[int, ...]) -> Float[np.ndarray, "N D"]:
    """The inverse of `_pack`."""
    shifts = sum(bits) - np.cumsum(bits)
    fields = [(words >> np.uint32(shift)) & np.uint32(2**count - 1) for shift, count in zip(shifts, bits, strict=True)]
    return np.stack([field / (2**count - 1) for field, count in zip(fields, bits, strict=True)], axis=1)
