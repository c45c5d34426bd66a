# SPDX-License-Identifier: Apache-2.0
"""The 3DGS PLY (Kerbl et al. 2023), which every splat program reads: 32-bit floats, exact. Read with plyfile.

Written as `ns-export gaussian-splat` does, and many times faster: rows of numbers go to the file as they are in memory,
where plyfile copies column by column.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import plyfile
from jaxtyping import Float32

from img3d_assets.axes import UpAxis
from img3d_methods.splats import SH_COEFFICIENTS, Splats

ROWS = 8192
"""Put together at once: what is in the processor's cache is several times faster."""
Z_UP = "Vertical Axis: z"
"""Nerfstudio's comment, which Nerfstudio writes; without it a PLY's up is -y, as 3DGS and COLMAP have it."""


def read(path: Path) -> tuple[Splats, UpAxis]:
    """The Gaussians, and the axis that points up.

    Raises:
        ValueError: It is another kind of PLY; or what plyfile raises on damaged ones.
    """
    ply = plyfile.PlyData.read(path)
    if "vertex" not in ply:
        raise ValueError("it has no vertices")
    vertices = ply["vertex"]
    names = {prop.name for prop in vertices.properties}
    if "packed_position" in names:
        raise ValueError("it is a compressed PLY: let its name end in .compressed.ply")

    def columns(*wanted: str) -> Float32[np.ndarray, "N C"]:
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"it holds no Gaussians: its vertices have no property {missing[0]!r}")
        return np.stack([np.asarray(vertices[name], np.float32) for name in wanted], axis=1)

    num_rest = sum(name.startswith("f_rest_") for name in names)
    if num_rest not in (3 * count for count in SH_COEFFICIENTS.values()):
        raise ValueError(f"it has {num_rest} properties f_rest_…: 0, 9, 24 or 45 make sense (degree 0 to 3)")
    means = columns("x", "y", "z")
    rest = np.zeros((len(means), 0, 3), np.float32)
    if num_rest:
        rest = columns(*(f"f_rest_{i}" for i in range(num_rest)))
        rest = rest.reshape(len(means), 3, num_rest // 3).transpose(0, 2, 1)  # the file has one channel after another
    splats = Splats(
        means,
        columns("rot_0", "rot_1", "rot_2", "rot_3"),
        columns("scale_0", "scale_1", "scale_2"),
        columns("opacity")[:, 0],
        columns("f_dc_0", "f_dc_1", "f_dc_2"),
        rest,
    )
    return splats, "z" if any(Z_UP.lower() in comment.lower() for comment in ply.comments) else "-y"


def write(splats: Splats, file: BinaryIO, up: UpAxis | None) -> None:
    """As they are, with a comment where z points up."""
    comments = [f"comment {Z_UP}"] if up == "z" else []
    num_rest = 3 * splats.sh_rest.shape[1]
    names = [*("x", "y", "z", "nx", "ny", "nz"), *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(num_rest)), "opacity"]
    names += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    header = ["ply", "format binary_little_endian 1.0", *comments]
    header += [f"element vertex {len(splats)}", *(f"property float {name}" for name in names)]
    file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
    for start in range(0, len(splats), ROWS):
        part = splats[start : start + ROWS]
        rest = part.sh_rest.transpose(0, 2, 1).reshape(len(part), num_rest)  # one channel after another
        columns = [part.means, np.zeros_like(part.means), part.sh_dc, rest, part.opacities[:, None]]
        table = np.concatenate([*columns, part.log_scales, part.quats], axis=1, dtype="<f4")
        file.write(table.data)
