# SPDX-License-Identifier: Apache-2.0
"""A triangle mesh with vertex colours and, optionally, a texture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from img3d_assets.axes import UpAxis


@dataclass
class Mesh:
    """Triangles with vertex colours and, if `texture` is set, a texture."""

    vertices: Float[np.ndarray, "N 3"]
    """World coordinates."""
    faces: Int[np.ndarray, "F 3"]
    """Indices into `vertices`, counter-clockwise as seen from outside."""
    colors: Float32[np.ndarray, "N 3"]
    """RGB of the vertices in [0, 1]."""
    uvs: Float32[np.ndarray, "N 2"] | None = None
    """Texture coordinates in [0, 1] with the origin at the texture's lower left, as in OBJ."""
    texture: UInt8[np.ndarray, "H W 3"] | None = None
    """sRGB, top row first."""
    up: UpAxis | None = None
    """The axis that points up; None if unknown."""

    def save(self, path: str | Path) -> None:
        """Writes a mesh file in the format of its ending: .obj, .glb, .usdz, .fbx, .ply or .stl.

        If `up` is known, the mesh is rotated to the axes that the format prescribes.

        Args:
            path: The file. Missing folders are created; existing files are replaced.

        Raises:
            InputError: The ending is unknown, a file cannot be written, or there are no triangles.
        """
        from img3d_assets.mesh_files import check_output, write_mesh  # imports this module

        path = Path(path)
        check_output(path, force=True)
        write_mesh(self, path, self.up)
