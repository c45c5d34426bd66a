# SPDX-License-Identifier: Apache-2.0
"""Which axis of a world points up, and the rotations between such worlds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

UpAxis = Literal["z", "y", "-y"]
"""Nerfstudio and Blender have z up, glTF has y up, 3DGS and COLMAP have -y up."""

TO_Y_UP: dict[UpAxis, Float[np.ndarray, "3 3"]] = {
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "y": np.eye(3),
    "-y": np.diag([-1.0, -1, 1]),
}
"""Rotation from a world with that axis up to one with y up."""
