# SPDX-License-Identifier: Apache-2.0
"""Real spherical harmonics, in the order (m from -l to l) and with the signs that 3D Gaussian Splatting files use."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SH_C0 = 0.28209479177387814
"""The constant harmonic, 1 / (2 sqrt(pi))."""

Array = TypeVar("Array", Tensor, np.ndarray)


def sh_basis(degree: int, dirs: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N K"]:
    """Evaluates the K = (degree + 1)^2 harmonics up to `degree` (0 to 3) in unit directions."""
    x, y, z = dirs.movedim(-1, 0).contiguous()  # each in a row: twice as fast, as is stacking rows
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * zz - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            -0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(basis).movedim(0, -1)


def rgb_to_sh(rgbs: Array) -> Array:
    """The degree-0 coefficients of a view-independent colour in [0, 1], with 3DGS's offset of 0.5."""
    shifted: Any = rgbs - 0.5
    return shifted / SH_C0


def sh_to_rgb(sh_dc: Array) -> Array:
    """The colour of degree-0 coefficients; the inverse of `rgb_to_sh`."""
    scaled: Any = SH_C0 * sh_dc
    return 0.5 + scaled
