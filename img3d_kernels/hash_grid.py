# SPDX-License-Identifier: Apache-2.0
"""The multiresolution hash grid of "Instant Neural Graphics Primitives" (Müller et al. 2022, arXiv 2201.05989), in
plain torch. The compiled kernels of `img3d_kernels.fields` have their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

PRIME_Y, PRIME_Z = 2654435761, 805459861
"""Factors of the paper's spatial hash; that of x is 1."""


def level_resolutions(num_levels: int, base: int, finest: int) -> list[int]:
    """Resolutions in geometric progression from `base` to `finest`, rounded down; equations (2) and (3) of the paper.

    Raises:
        ValueError: Fewer than two levels, or not 1 <= base <= finest.
    """
    if num_levels < 2 or not 1 <= base <= finest:
        raise ValueError(
            f"needs two levels or more and 1 <= base <= finest, got {num_levels} levels from {base} to {finest}"
        )
    growth = finest / base
    # The factor makes up for powers that are integers but are rounded to just below.
    return [int(base * growth ** (level / (num_levels - 1)) * (1 + 1e-12)) for level in range(num_levels)]


def hash_grid(
    positions: Float[Tensor, "N 3"], table: Float[Tensor, "L T 2"], resolutions: Sequence[int]
) -> Float[Tensor, "N F"]:
    """Features of points, interpolated trilinearly from the corners of their cells on L grids; section 3 of the paper.

    Each level is a grid over [0, 1]^3, whose corners map to entries of the table: x + y (r + 1) + z (r + 1)^2 if there
    are entries for all (r + 1)^3 corners, else the hash (x xor y * 2654435761 xor z * 805459861) modulo T in 32 bits.

    Differentiable in the table, and in the positions inside their cells.

    Args:
        positions: Points in [0, 1]^3; points outside are clamped.
        table: Learned features: L levels of T entries, a power of two, with two features each.
        resolutions: For each level, the number of cells along an axis.

    Returns:
        `[N, 2 L]`; the features of level l are the columns 2 l and 2 l + 1.
    """
    offsets = torch.tensor(list(product((0, 1), repeat=3)), device=positions.device)
    features = []
    for entries, resolution in zip(table, resolutions, strict=True):
        scaled = (positions * resolution).clamp(0, resolution)
        cells = scaled.detach().long().clamp(0, resolution - 1)
        fractions = (scaled - cells)[:, None]
        weights = torch.where(offsets.bool(), fractions, 1 - fractions).prod(dim=-1)
        corners = entries[_entry_of(cells[:, None] + offsets, resolution, len(entries))]
        features.append((weights[..., None] * corners).sum(dim=1))
    return torch.cat(features, dim=-1)


def _entry_of(corners: Int[Tensor, "N 8 3"], resolution: int, table_size: int) -> Int[Tensor, "N 8"]:
    x, y, z = corners.unbind(-1)
    side = resolution + 1
    if side**3 <= table_size:
        return x + side * (y + side * z)
    # Only the low bits are kept, which are the same for 64-bit products as for the paper's 32-bit ones.
    return (x ^ (y * PRIME_Y) ^ (z * PRIME_Z)) & (table_size - 1)
