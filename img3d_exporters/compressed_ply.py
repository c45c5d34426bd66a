# SPDX-License-Identifier: Apache-2.0
"""PlayCanvas's compressed PLY: Gaussians in chunks of 256, each value a few bits between its chunk's extremes.

16 bytes a Gaussian, and one more for each spherical harmonics coefficient; a 3DGS PLY has four times as many. The
layout is documented at https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/ply/ and by its reader,
the engine's `gsplat-compressed-data.js`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64, UInt32

from img3d_exporters.splats import SH_C0, Splats

CHUNK = 256
LARGEST_LOG_SCALE = 20.0
"""The format's own limit, on both sides."""


def compressed_ply(splats: Splats) -> bytes:
    """The file's bytes. Neighbours in space come one after another, so that chunks are small and positions precise.

    Args:
        splats: At least one, all finite.
    """
    splats = splats[morton_order(splats.means)]
    colors = 0.5 + SH_C0 * splats.sh_dc
    log_scales = splats.log_scales.clip(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    extremes = [_extremes(values) for values in (splats.means, log_scales, colors)]
    chunks = np.concatenate([bound for pair in extremes for bound in pair], axis=1)  # [C, 18]
    means, scales, colors = (
        _within(values, *pair) for values, pair in zip((splats.means, log_scales, colors), extremes, strict=True)
    )
    opacities = 1 / (1 + np.exp(-splats.opacities.astype(np.float64)))
    vertices = np.stack(
        [
            _pack(means, (11, 10, 11)),
            _pack_rotations(splats.quats),
            _pack(scales, (11, 10, 11)),
            _pack(np.concatenate([colors, opacities[:, None]], axis=1), (8, 8, 8, 8)),
        ],
        axis=1,
    )
    # A coefficient is a byte for [-4, 4]; one channel comes after another, as in the 3DGS PLY.
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)
    rest = np.clip(np.round((rest / 8 + 0.5) * 255), 0, 255).astype(np.uint8)

    bounds = [f"{end}_{name}" for names in ("x y z", "scale_x scale_y scale_z", "r g b") for end in ("min", "max")
              for name in names.split()]  # fmt: skip
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


def morton_order(means: Float[np.ndarray, "N 3"]) -> Int64[np.ndarray, "N"]:
    """Indices along a Z-shaped curve through space: a point's neighbours on it are mostly its neighbours in space."""
    low, high = means.min(axis=0).astype(np.float64), means.max(axis=0).astype(np.float64)
    cells = ((means - low) / np.maximum(high - low, 1e-30) * (2**21 - 1)).astype(np.uint64)
    # Spread the 21 bits of a coordinate to every third of 63.
    for shift, mask in ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
                        (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249)):  # fmt: skip
        cells = (cells | (cells << np.uint64(shift))) & np.uint64(mask)
    return np.argsort(cells[:, 0] | (cells[:, 1] << np.uint64(1)) | (cells[:, 2] << np.uint64(2)), kind="stable")


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
        largest = 2**count - 1
        level = np.clip(np.floor(values[:, column] * largest + 0.5), 0, largest).astype(np.uint32)
        word = (word << np.uint32(count)) | level
    return word


def _pack_rotations(quats: Float[np.ndarray, "N 4"]) -> UInt32[np.ndarray, "N"]:
    """Which of w, x, y, z is largest (2 bits), then the others, which lie within ±1/√2 (10 bits each)."""
    quats = quats.astype(np.float64) / np.linalg.norm(quats, axis=1, keepdims=True)
    largest = np.abs(quats).argmax(axis=1)
    sign = np.where(np.take_along_axis(quats, largest[:, None], axis=1) < 0, -1.0, 1.0)  # -q is the same rotation
    others = np.array([[j for j in range(4) if j != i] for i in range(4)])[largest]
    rest = np.take_along_axis(quats * sign, others, axis=1)
    return (largest.astype(np.uint32) << np.uint32(30)) | _pack(rest / np.sqrt(2) + 0.5, (10, 10, 10))
