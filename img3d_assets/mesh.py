# SPDX-License-Identifier: Apache-2.0
"""A triangle mesh, as the steps from pictures to a file hand it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from img3d_assets.axes import UpAxis


@dataclass
class Mesh:
    """Triangles with colours, and with a texture once one is baked."""

    vertices: Float[np.ndarray, "N 3"]
    """World coordinates."""
    faces: Int[np.ndarray, "F 3"]
    """Indices of vertices, counter-clockwise as seen from outside."""
    colors: Float32[np.ndarray, "N 3"]
    """RGB of the vertices in [0, 1]."""
    uvs: Float32[np.ndarray, "N 2"] | None = None
    """Texture coordinates in [0, 1], the origin at the texture's lower left, as OBJ has it."""
    texture: UInt8[np.ndarray, "H W 3"] | None = None
    """sRGB, the upper row first."""
    up: UpAxis | None = None
    """The axis that points up, where it is known."""

    def save(self, path: str | Path) -> None:
        """Write a mesh file in the format of its ending: .obj, .glb, .usdz, .fbx, .ply or .stl.

        Formats that prescribe axes get these, as far as `up` is known.

        Args:
            path: Its folder is made; files that are there are replaced.

        Raises:
            InputError: The ending is unknown, a file cannot be written, or there are no triangles.
        """
        from img3d_assets.mesh_files import check_output, write_mesh  # imports this module

        path = Path(path)
        check_output(path, force=True)
        write_mesh(self, path, self.up)
