# SPDX-License-Identifier: Apache-2.0
"""A triangle mesh, as the steps from pictures to a file hand it on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8


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
