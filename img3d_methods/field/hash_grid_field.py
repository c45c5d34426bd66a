# SPDX-License-Identifier: Apache-2.0
"""A radiance field as a hash grid and two small networks: density and colour anywhere in space.

As instant-ngp (Müller et al. 2022, arXiv 2201.05989), in nerfacto's contracted space: the cube [-1, 1]^3 as it is,
everything around it in a shell of the same width (Barron et al. 2021, arXiv 2111.12077, with the largest coordinate as
the norm).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.field_components.activations import trunc_exp
from torch import Tensor, nn

from img3d_kernels.hash_grid import hash_grid, level_resolutions
from img3d_kernels.spherical_harmonics import sh_basis

FIRST_FEATURES = 1e-4
"""Features begin within this of 0, as the paper's."""
GEOMETRY_FEATURES = 15
"""What the first network hands on to the second, beside the density."""
FIRST_DENSITY = -2.0
"""Logarithm of the density that space has to begin with, per world unit. In thin air more rays reach the surfaces: two
decibels more than with 0 after 600 steps of fox."""
SH_DEGREE = 3
"""Of the spherical harmonics of the direction that a colour is seen from."""


def contracted(positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """All of space in [-2, 2]^3, as nerfacto's SceneContraction, whose norms took a third of a render's time."""
    x, y, z = positions.abs().unbind(dim=1)
    size = torch.maximum(torch.maximum(x, y), z).clamp_min(1)[:, None]
    return (2 - 1 / size) * (positions / size)


class HashGrid(nn.Module):
    """Learned features of positions.

    Args:
        num_levels: Grids, each finer than the one before; two features of each.
        base_resolution: Cells along each side of space in the coarsest.
        finest_resolution: … and in the finest.
        log2_table_size: Logarithm of the number of entries of each: larger ones cost memory, smaller ones make places
            share their features.
    """

    def __init__(self, num_levels: int, base_resolution: int, finest_resolution: int, log2_table_size: int) -> None:
        super().__init__()
        self.resolutions = level_resolutions(num_levels, base_resolution, finest_resolution)
        # A row an entry: the optimizer leaves rows alone that a step has not touched.
        self.table = nn.Parameter(
            torch.empty(num_levels << log2_table_size, 2).uniform_(-FIRST_FEATURES, FIRST_FEATURES)
        )

    @property
    def num_features(self) -> int:
        return 2 * len(self.resolutions)

    def forward(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch F"]:
        """Features at world coordinates; no gradient reaches the coordinates."""
        unit = (contracted(positions.detach().reshape(-1, 3)) + 2) / 4
        table = self.table.view(len(self.resolutions), -1, 2)
        return hash_grid(unit, table, self.resolutions).view(*positions.shape[:-1], -1)


class DensityField(nn.Module):
    """Density alone, small and fast: tells where samples along a ray are worth their time.

    Args:
        grid: Its features.
        hidden_dim: Width of its network.
    """

    def __init__(self, grid: HashGrid, hidden_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.network = nn.Sequential(nn.Linear(grid.num_features, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1))

    def forward(self, positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 1"]:
        """Density per world unit at world coordinates."""
        return trunc_exp(self.network(self.grid(positions)) + FIRST_DENSITY)


class RadianceField(nn.Module):
    """Density, and the colour in which it is seen.

    Args:
        grid: Its features.
        hidden_dim: Width of its networks.
    """

    def __init__(self, grid: HashGrid, hidden_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.geometry = nn.Sequential(
            nn.Linear(grid.num_features, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 1 + GEOMETRY_FEATURES)
        )
        self.from_geometry = nn.Linear(1 + GEOMETRY_FEATURES, hidden_dim)
        self.from_direction = nn.Linear((SH_DEGREE + 1) ** 2, hidden_dim, bias=False)
        self.color = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, 3), nn.Sigmoid()
        )

    def forward(
        self, positions: Float[Tensor, "R S 3"], directions: Float[Tensor, "R 3"]
    ) -> tuple[Float[Tensor, "R S 1"], Float[Tensor, "R S 3"]]:
        """Along R rays, with S samples each.

        Args:
            positions: World coordinates.
            directions: Of the rays, unit vectors.

        Returns:
            Density per world unit, and sRGB in [0, 1].
        """
        geometry = self.geometry(self.grid(positions))
        # A ray's direction is brought in once, not once for each of its samples.
        seen_from = self.from_direction(sh_basis(SH_DEGREE, directions))
        rgb = self.color(self.from_geometry(geometry) + seen_from[:, None, :])
        return trunc_exp(geometry[..., :1] + FIRST_DENSITY), rgb
