# SPDX-License-Identifier: Apache-2.0
"""Gaussians as a 3DGS PLY (Kerbl et al. 2023), which every splat program reads; the counterpart of `read_ply`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from img3d_dataparsers.atomic_files import write_atomically
from img3d_dataparsers.errors import InputError
from img3d_exporters.splats import Splats, UpAxis

FORMATS = (".ply",)


def check_output(path: Path, force: bool) -> None:
    """Raises InputError where the file may not be written, before anything that takes long."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path} has an unknown ending: img3d-export splat writes {', '.join(FORMATS)}.")
    if path.is_dir() or (path.exists() and not force):
        raise InputError(f"{path} is there already: choose another name{'' if path.is_dir() else ', or give --force'}.")


def write_splats(splats: Splats, path: Path, up: UpAxis | None) -> None:
    """Writes the file whole, or not at all.

    Args:
        splats: N Gaussians.
        path: Its folder is made.
        up: The axis that points up; None if that is not known.

    Raises:
        InputError: It cannot be written.
    """
    import plyfile

    rest = splats.sh_rest.transpose(0, 2, 1).reshape(len(splats), -1)  # one channel after another
    columns = {
        **{name: splats.means[:, i] for i, name in enumerate("xyz")},
        **{name: np.zeros(len(splats), np.float32) for name in ("nx", "ny", "nz")},
        **{f"f_dc_{i}": splats.sh_dc[:, i] for i in range(3)},
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        "opacity": splats.opacities,
        **{f"scale_{i}": splats.log_scales[:, i] for i in range(3)},
        **{f"rot_{i}": splats.quats[:, i] for i in range(4)},
    }
    vertices = np.empty(len(splats), [(name, "<f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    comments = ["Vertical Axis: z"] if up == "z" else []  # Nerfstudio's words
    ply = plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")], comments=comments, byte_order="<")
    try:
        with write_atomically(path) as temporary:
            ply.write(temporary)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
