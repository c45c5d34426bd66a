# SPDX-License-Identifier: Apache-2.0
"""The up axis of a coordinate system, and rotations between systems with different up axes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

UpAxis = Literal["z", "y", "-y"]
"""z is up in Nerfstudio and Blender, y in glTF, -y in 3DGS and COLMAP."""

TO_Y_UP: dict[UpAxis, npt.NDArray[np.float64]] = {
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "y": np.eye(3),
    "-y": np.diag([-1.0, -1, 1]),
}
"""Rotation `[3, 3]` from a system in which this axis is up to one in which y is up."""
