# SPDX-License-Identifier: Apache-2.0
"""Writing Wavefront OBJ with its MTL, the text format that nearly every program reads.

Our own writer: trimesh indexes positions and texture coordinates together, which splits a closed surface along the
seams of its texture; Open3D does not, but it writes neither smooth normals nor colours, and does not notice a full
disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals, welded

MATERIAL = "textured"


def write(mesh: Mesh, path: Path, mtl_name: str | None) -> None:
    """Writes the geometry; without a material, colours follow the positions, as in MeshLab.

    Args:
        mesh: The mesh, y up, as most programs assume.
        path: The OBJ file.
        mtl_name: Name of the MTL file; None without a material.
    """
    kept, of_vertex = welded(mesh)
    corners = of_vertex[mesh.faces] + 1  # OBJ's indices count from 1
    columns = [corners, mesh.faces + 1, corners]
    positions, positions_format = mesh.vertices[kept], "v %.8g %.8g %.8g"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# img3d\n")
        if mtl_name is not None:
            file.write(f"mtllib {mtl_name}\nusemtl {MATERIAL}\n")
        else:
            positions = np.concatenate([positions, mesh.colors[kept]], axis=1)
            positions_format += " %.4f %.4f %.4f"
        _lines(file, positions_format, positions)
        if mesh.uvs is not None:
            _lines(file, "vt %.6f %.6f", mesh.uvs)
        else:
            columns.pop(1)
        _lines(file, "vn %.4f %.4f %.4f", vertex_normals(mesh)[kept])
        corner = "%d/%d/%d" if mesh.uvs is not None else "%d//%d"
        _lines(file, f"f {corner} {corner} {corner}", np.stack(columns, axis=2).reshape(len(mesh.faces), -1))


def material(texture_name: str) -> str:
    """The contents of the MTL file: a matt material with a texture."""
    return f"newmtl {MATERIAL}\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture_name}\n"


def _lines(file: object, pattern: str, rows: npt.NDArray[np.generic]) -> None:
    np.savetxt(file, rows, fmt=pattern)  # pyright: ignore[reportArgumentType]
