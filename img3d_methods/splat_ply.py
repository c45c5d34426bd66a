# SPDX-License-Identifier: Apache-2.0
"""Gaussians as a 3DGS PLY (Kerbl et al. 2023), the file that `ns-export gaussian-splat` makes, and many times faster.

The table of numbers goes to the file as it is; plyfile, which the tests read it with, would copy it column by column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor

from img3d_dataparsers.atomic_files import write_atomically
from img3d_methods.splats import Splats, splats_of_parameters


def write_splat_ply(params: dict[str, Tensor], sh_degree: int, path: Path) -> int:
    """Write the Gaussians that can be seen; the file appears when it is complete.

    Args:
        params: splatfacto's parameters of N Gaussians, as for `splats_of_parameters`.
        sh_degree: Degree of the spherical harmonics.
        path: The file; its folder is made.

    Returns:
        The number of Gaussians written.

    Raises:
        OSError: It could not be written, or there is nothing to write.
    """
    splats = splats_of_parameters(params, sh_degree).visible()
    if len(splats) == 0:
        raise OSError(0, "no Gaussian is inside the crop box and opaque enough to be seen", str(path))
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        write_ply(splats, file)
    return len(splats)


def write_ply(splats: Splats, file: BinaryIO, comments: Sequence[str] = ()) -> None:
    """Write N Gaussians, with these comments in the header."""
    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)  # one channel after another
    columns = {
        ("x", "y", "z"): splats.means,
        ("nx", "ny", "nz"): np.zeros_like(splats.means),
        tuple(f"f_dc_{i}" for i in range(3)): splats.sh_dc,
        tuple(f"f_rest_{i}" for i in range(rest.shape[1])): rest,
        ("opacity",): splats.opacities[:, None],
        tuple(f"scale_{i}" for i in range(3)): splats.log_scales,
        tuple(f"rot_{i}" for i in range(4)): splats.quats,
    }
    header = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in comments)]
    header += [f"element vertex {len(splats)}", *(f"property float {name}" for names in columns for name in names)]
    file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
    table = np.empty((len(splats), sum(map(len, columns))), "<f4")
    np.concatenate(list(columns.values()), axis=1, out=table)
    file.write(table.data)
