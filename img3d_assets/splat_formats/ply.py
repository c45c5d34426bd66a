# SPDX-License-Identifier: Apache-2.0
"""The 3DGS PLY (Kerbl et al. 2023), which every splat program reads: exact 32-bit floats.

It is written as by `ns-export gaussian-splat`. Variants of other programs are read too: one or two scales (2DGS), red,
green and blue instead of harmonics (`ns-export gaussian-splat --ply-color-mode rgb`), harmonics of degree 4, positions
in double precision, comments that declare the render mode, Mip-Splatting's 3D filter beside the Gaussians.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32

from img3d_assets.axes import UpAxis
from img3d_assets.gaussians import SH_COEFFICIENTS, Gaussians
from img3d_assets.quantised import logits
from img3d_assets.splat_formats.counts import check_count
from img3d_base.errors import InputError, warn
from img3d_base.ply_tables import PlyTables
from img3d_kernels.spherical_harmonics import rgb_to_sh

ROWS = 8192
"""Rows assembled at a time: several times faster, because they fit into the processor's cache."""
Z_UP = "Vertical Axis: z"
"""Nerfstudio's comment. Without it, -y is up, as in 3DGS and COLMAP."""
NUMBER = r"(-?\d+(?:\.\d+)?)"
VERTICAL = re.compile(rf"\s*Vertical axis:\s*(?:(z)|{NUMBER}\s+{NUMBER}\s+{NUMBER})\s*", re.IGNORECASE)
"""Nerfstudio's comment, or Brush's with a direction: `Vertical axis: 0 0 1`. (Brush's default is y, pointing down.)"""
ANTIALIASED = "SplatRenderMode: mip"
"""Brush's comment, which PlayCanvas's programs also write."""
RENDER_MODE = re.compile(r"\s*(?:SplatRenderMode:\s*(?P<brush>\w+)|antialiased\s+(?P<postshot>[01]))\s*", re.IGNORECASE)
"""Brush's comment or Postshot's: `antialiased 1`."""
MAX_DEGREE = 3
FILTER_3D = "filter_3D"
"""Property of the PLYs that Mip-Splatting and its successors write during training."""


def splats_of(ply: PlyTables, path: Path) -> tuple[Gaussians, UpAxis]:
    """Decodes the Gaussians; returns them and the axis that points up.

    Args:
        ply: The file's tables.
        path: The file, for messages.

    Raises:
        InputError: It is another kind of PLY.
    """
    vertices = ply.tables.get("vertex")
    if vertices is None:
        raise InputError(f"{path} holds no Gaussians: it has no vertices")
    num = check_count(len(vertices), path)
    names = set(vertices.dtype.names or ())

    def columns(wanted: Sequence[str]) -> Float32[np.ndarray, "N C"]:
        return _columns(vertices, wanted, path).astype(np.float32, copy=False)

    rest_names = names_of_harmonics(list(names), path)
    rest = columns(rest_names).reshape(num, 3, len(rest_names) // 3).transpose(0, 2, 1)
    splats = Gaussians(
        np.zeros((num, 3), np.float32),
        columns(["rot_0", "rot_1", "rot_2", "rot_3"]),
        _log_scales(columns, names),
        columns(["opacity"])[:, 0],
        _sh_dc(vertices, path),
        rest,
        antialiased=is_antialiased(ply.comments),
    )
    if FILTER_3D in names:
        splats = filtered(splats, columns([FILTER_3D]))
    return splats.at(_columns(vertices, "xyz", path)), _up_axis(ply.comments)


def filtered(splats: Gaussians, widths: Float32[np.ndarray, "N 1"]) -> Gaussians:
    """Gaussians with Mip-Splatting's 3D smoothing filter applied (Yu et al. 2024, equation 9).

    Each is convolved with an isotropic Gaussian; its opacity falls as its volume grows.

    Args:
        splats: N Gaussians as Mip-Splatting stores them during training.
        widths: Standard deviations of the filter; 0 for none.
    """
    log_variances = 2 * splats.log_scales.astype(np.float64)
    log_filtered = np.logaddexp(log_variances, 2 * np.log(widths.astype(np.float64)))
    alphas = splats.alphas() * np.exp((log_variances - log_filtered).sum(axis=1) / 2)
    return replace(
        splats, log_scales=(log_filtered / 2).astype(np.float32), opacities=logits(alphas).astype(np.float32)
    )


def _up_axis(comments: Sequence[str]) -> UpAxis:
    """The `UpAxis` nearest to what the comments declare."""
    for match in filter(None, map(VERTICAL.fullmatch, comments)):
        axis, _, y, z = match.groups()
        if axis or float(z) > abs(float(y)):
            return "z"
        return "y" if float(y) > abs(float(z)) else "-y"
    return "-y"


def names_of_harmonics(names: Sequence[str], path: Path) -> list[str]:
    """The properties that hold the harmonics up to `MAX_DEGREE`, channel by channel as in the file.

    Raises:
        InputError: Their number matches no degree.
    """
    count = sum(name.startswith("f_rest_") for name in names)
    degree = next((degree for degree in range(8) if count == 3 * degree * (degree + 2)), None)
    if degree is None:
        raise InputError(f"{path} has {count} properties f_rest_…, but degree 0 to 3 has 0, 9, 24 or 45: it is damaged")
    if degree > MAX_DEGREE:
        warn(f"{path} has spherical harmonics of degree {degree}: those of degree 1 to {MAX_DEGREE} are kept.")
    kept = SH_COEFFICIENTS[min(degree, MAX_DEGREE)]
    return [f"f_rest_{channel * count // 3 + i}" for channel in range(3) for i in range(kept)]


def is_antialiased(comments: Sequence[str]) -> bool:
    """Whether the last comment about the render mode declares Mip-Splatting's 2D filter."""
    modes = [match for match in map(RENDER_MODE.fullmatch, comments) if match]
    return bool(modes) and (modes[-1]["postshot"] or modes[-1]["brush"].lower()) in ("1", "mip")


def _columns(vertices: npt.NDArray[Any], wanted: Sequence[str], path: Path) -> npt.NDArray[Any]:
    """Properties stacked as columns `[N, C]`, in the most precise of their types."""
    missing = [name for name in wanted if name not in (vertices.dtype.names or ())]
    if missing:
        raise InputError(f"{path} holds no Gaussians: its vertices have no property {missing[0]!r}")
    if not wanted:
        return np.zeros((len(vertices), 0), np.float32)
    return np.stack([vertices[name] for name in wanted], axis=1)


def _log_scales(columns: Any, names: set[str]) -> Float32[np.ndarray, "N 3"]:
    if "scale_1" not in names and "scale_0" in names:  # isotropic Gaussians
        return np.repeat(columns(["scale_0"]), 3, axis=1)
    if "scale_2" not in names:  # the discs of 2D Gaussian Splatting (Huang et al. 2024)
        log_scales = columns(["scale_0", "scale_1"])
        return np.concatenate([log_scales, np.full((len(log_scales), 1), -np.inf, np.float32)], axis=1)
    return columns(["scale_0", "scale_1", "scale_2"])


def _sh_dc(vertices: npt.NDArray[Any], path: Path) -> Float32[np.ndarray, "N 3"]:
    names = vertices.dtype.names or ()
    if "f_dc_0" in names or "red" not in names:
        return _columns(vertices, ["f_dc_0", "f_dc_1", "f_dc_2"], path).astype(np.float32, copy=False)
    colors = _columns(vertices, ["red", "green", "blue"], path)
    largest = np.iinfo(colors.dtype).max if np.issubdtype(colors.dtype, np.integer) else 1 if colors.max() < 2 else 255
    return rgb_to_sh((colors / np.float32(largest)).astype(np.float32))


def write(splats: Gaussians, file: BinaryIO, up: UpAxis | None) -> None:
    """Writes the Gaussians as they are, with comments for z up and for antialiased rendering."""
    comments = [f"comment {Z_UP}"] if up == "z" else []
    comments += [f"comment {ANTIALIASED}"] if splats.antialiased else []
    num_rest = 3 * splats.sh_rest.shape[1]
    names = [*("x", "y", "z", "nx", "ny", "nz"), *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(num_rest)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    header = ["ply", "format binary_little_endian 1.0", *comments]
    header += [f"element vertex {len(splats)}", *(f"property float {name}" for name in names)]
    file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
    for start in range(0, len(splats), ROWS):
        part = splats[start : start + ROWS]
        rest = part.sh_rest.transpose(0, 2, 1).reshape(len(part), num_rest)  # channel by channel
        columns = [part.means, np.zeros_like(part.means), part.sh_dc, rest, part.opacities[:, None]]
        table = np.concatenate([*columns, part.log_scales, part.quats], axis=1, dtype="<f4")
        file.write(table.data)
