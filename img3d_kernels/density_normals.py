# SPDX-License-Identifier: Apache-2.0
"""Normals of the surfaces of a density, from four densities around each point."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

TETRAHEDRON = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
"""Unit vectors to the corners of a regular tetrahedron."""
MIN_DENSITY = 1e-30
"""Smaller densities count as this, so that their logarithm is finite."""


def density_normals(
    log_density: Callable[[Float[Tensor, "M 3"]], Float[Tensor, "M"]], points: Float[Tensor, "N 3"], distance: float
) -> Float[Tensor, "N 3"]:
    """Unit normals that point out of the object: the direction in which the logarithm of the density falls fastest.
    Where it is constant, the normal is 0.

    Args:
        log_density: Returns the logarithm of the density at world coordinates. The normals are differentiable in what
            it is differentiable in.
        points: World coordinates.
        distance: Distance from a point to the four at which the density is looked up, in world units.
    """
    corners = TETRAHEDRON.to(points)
    around = log_density((points[:, None] + distance * corners).view(-1, 3)).view(-1, 4)
    falls = around[:, :1] - around  # exactly 0 if constant; the corners' sum is 0
    return torch.nn.functional.normalize(falls @ corners, dim=-1)
