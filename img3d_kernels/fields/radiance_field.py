# SPDX-License-Identifier: Apache-2.0
"""A radiance field's arrays, and its density and colour in plain torch.

The architecture is Instant-NGP's (Müller et al. 2022, arXiv 2201.05989, section 5.4): a hash grid, a density network
with one hidden layer, a colour network with two, all 64 wide and without biases. What depends on the ray (its
direction, its photo's appearance) is added to the colour network's first hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor

from img3d_kernels.hash_grid import hash_grid
from img3d_kernels.rendering import default_backend, has_compiled_kernels

HIDDEN = 64
"""Width of the networks."""
GEOMETRY = 16
"""Outputs of the density network, which the colour network takes; the first is the logarithm of the density."""
MAX_LEVELS = 16
"""Levels of the hash grid."""
MAX_LOG_DENSITY = 15.0
"""Logarithms of densities are clamped here."""


@dataclass
class FieldSpace:
    """The part of space where a field has features, and which of its cells may be dense."""

    low: tuple[float, float, float]
    """Lower corner: in world coordinates, or in contracted ones."""
    high: tuple[float, float, float]
    """Upper corner."""
    contracted: bool
    """Whether all of space is mapped into [-2, 2]^3: the cube [-1, 1]^3 stays, and everything around it gets into a
    shell of the same width (Barron et al. 2021, arXiv 2111.12077, with the maximum norm)."""
    occupied: Int32[Tensor, "words"] | None = None
    """A bit for each of `grid_size`³ cells, x slowest, that is 0 if the cell is empty; None: none is known to be."""
    grid_size: int = 128
    """Cells along an axis."""

    @staticmethod
    def unbounded() -> FieldSpace:
        """All of space."""
        return FieldSpace((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0), contracted=True)

    def to_unit(self, positions: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3"]:
        """World coordinates to the unit cube."""
        if self.contracted:
            size = positions.abs().amax(dim=-1, keepdim=True).clamp_min(1)
            positions = positions * (2 - 1 / size) / size
        low, high = positions.new_tensor(self.low), positions.new_tensor(self.high)
        return (positions - low) / (high - low)

    @staticmethod
    def cells(unit: Float[Tensor, "*N 3"], size: int) -> Int64[Tensor, "*N"]:
        """Indices of the cells of a grid over the unit cube, with `size` cells along an axis, x slowest."""
        x, y, z = (unit * size).long().clamp(0, size - 1).unbind(dim=-1)
        return (x * size + y) * size + z

    def may_be_dense(self, cells: Int64[Tensor, "*N"]) -> Bool[Tensor, "*N"]:
        """Whether cells with these indices may be dense.

        Raises:
            ValueError: No cell is known to be empty.
        """
        if self.occupied is None:
            raise ValueError("this space has no occupancy grid")
        return (self.occupied[cells >> 5] >> (cells & 31)) & 1 == 1

    def from_unit(self, unit: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3"]:
        """The unit cube to world coordinates; what would be infinitely far is about 1e4 away."""
        low, high = unit.new_tensor(self.low), unit.new_tensor(self.high)
        positions = low + unit * (high - low)
        if not self.contracted:
            return positions
        size = positions.abs().amax(dim=-1, keepdim=True)
        return torch.where(size > 1, positions / size / (2 - size).clamp_min(1e-4), positions)


@dataclass
class FieldParameters:
    """What a field learned, and where it lies."""

    table: Float[Tensor, "L T 2"]
    """Features of the hash grid; T is a power of two."""
    networks: Float[Tensor, "K 64"]
    """Rows of weights: 2 L of the density network's first layer by input and 16 of its second by output; 16 and 64 of
    the colour network's first and second layer by input, 3 of its third by output."""
    resolutions: Sequence[int]
    """Cells along an axis of each level."""
    space: FieldSpace
    density_bias: float = 0.0
    """Added to the logarithm of the density."""
    bfloat16: bool = False
    """Whether the factors of the networks' products are rounded to bfloat16, with sums in float32, in training and
    rendering. The compiled kernels do so where the processor has such products (AMX, AVX-512 BF16 of AMD's).
    `density` never does, as normals are differences of densities."""

    def __post_init__(self) -> None:
        levels = len(self.resolutions)
        if not 1 <= levels <= MAX_LEVELS:
            raise ValueError(f"a field must have 1 to {MAX_LEVELS} levels, got {levels}")
        if self.table.dim() != 3 or self.table.shape[0] != levels or self.table.shape[2] != 2:
            raise ValueError(f"table must be [{levels}, T, 2], got {list(self.table.shape)}")
        if self.networks.shape != (num_weight_rows(levels), HIDDEN):
            raise ValueError(f"networks must be [{num_weight_rows(levels)}, {HIDDEN}], got {list(self.networks.shape)}")

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled kernels take these parameters."""
        return default_backend(self.table) == "cpu" and self.table.dtype == torch.float32

    def layers(self) -> tuple[Tensor, ...]:
        """The matrices of the five layers, to multiply rows of activations with."""
        sizes = [2 * len(self.resolutions), GEOMETRY, GEOMETRY, HIDDEN, 3]
        density1, density2, color1, color2, color3 = self.networks.split(sizes)
        return density1, density2.T, color1, color2, color3.T


def has_bfloat16() -> bool:
    """Whether the compiled kernels are here, and the processor has products of bfloat16 numbers."""
    if not has_compiled_kernels():
        return False
    from img3d_kernels import _C

    return _C.has_bfloat16_fields()


def num_weight_rows(num_levels: int) -> int:
    """Rows of a field's networks."""
    return 2 * num_levels + 2 * GEOMETRY + HIDDEN + 3


def first_weights(num_levels: int) -> Float[Tensor, "K 64"]:
    """Random weights for the networks, uniform as in Glorot and Bengio 2010."""
    inputs_outputs = [(2 * num_levels, HIDDEN), (HIDDEN, GEOMETRY), (GEOMETRY, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 3)]
    rows = [2 * num_levels, GEOMETRY, GEOMETRY, HIDDEN, 3]
    limits = [(6 / (inputs + outputs)) ** 0.5 for inputs, outputs in inputs_outputs]
    return torch.cat(
        [torch.empty(count, HIDDEN).uniform_(-limit, limit) for count, limit in zip(rows, limits, strict=True)]
    )


def geometry_torch(
    field: FieldParameters, positions: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 16"]]:
    """Density and the density network's outputs at world coordinates; differentiable, also in the positions."""
    log_density, geometry = log_density_torch(field, positions)
    return log_density.exp(), geometry


def log_density_torch(
    field: FieldParameters, positions: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 16"]]:
    """`geometry_torch` with the density's logarithm."""
    density1, density2, *_ = field.layers()
    features = hash_grid(field.space.to_unit(positions), field.table, field.resolutions)
    geometry = _product(field, _product(field, features, density1).relu(), density2)
    return (geometry[:, 0] + field.density_bias).clamp_max(MAX_LOG_DENSITY), geometry


def color_torch(
    field: FieldParameters, geometry: Float[Tensor, "N 16"], ray_features: Float[Tensor, "N 64"]
) -> Float[Tensor, "N 3"]:
    """sRGB in [0, 1]."""
    *_, color1, color2, color3 = field.layers()
    hidden = (_product(field, geometry, color1) + ray_features).relu()
    return _product(field, _product(field, hidden, color2).relu(), color3).sigmoid()


def _product(field: FieldParameters, activations: Tensor, weights: Tensor) -> Tensor:
    if field.bfloat16:
        activations, weights = activations.bfloat16().to(activations.dtype), weights.bfloat16().to(weights.dtype)
    return activations @ weights


@torch.no_grad()
def density(field: FieldParameters, positions: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
    """Density per world unit at world coordinates."""
    if not field.is_compiled:
        return geometry_torch(replace(field, bfloat16=False), positions)[0]
    from img3d_kernels.fields import compiled

    return compiled.density(field, positions)
