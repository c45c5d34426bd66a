# SPDX-License-Identifier: Apache-2.0
"""The occupied voxels of an object, with the tables of neighbours, windows and parents that sparse layers need. The
tables are computed once for all layers.

Features are `[B, N, C]`: B sets of features on the same N voxels, so that a guided step is one batch.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

OFFSETS = torch.cartesian_prod(*(torch.tensor([-1, 0, 1]),) * 3)
"""Offsets `[27, 3]` from a voxel to itself and its 26 neighbours, z fastest: the order of a convolution's weights."""
CENTRE = len(OFFSETS) // 2
"""Index of the voxel itself in `OFFSETS`."""
CHILDREN = torch.cartesian_prod(*(torch.tensor([0, 1]),) * 3)
"""Offsets `[8, 3]` from the first of a voxel's 8 children to each of them, z fastest."""
MAX_PERIOD = 10000
"""Limit of the periods of the position embedding's sines, divided by 2 pi, in voxels."""


class VoxelGrid:
    """N different voxels.

    Args:
        coords: The voxels' coordinates, from 0, in the order of their features.
    """

    def __init__(self, coords: Int[Tensor, "N 3"]) -> None:
        self.coords = coords.long()
        self._windows: dict[tuple[int, int], list[Int[Tensor, "W L"]]] = {}

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def neighbours(self) -> list[tuple[Int[Tensor, "P"], Int[Tensor, "P"]]]:
        """For each of `OFFSETS`, the voxels that have a neighbour there, and these neighbours."""
        # With a border, no voxel is the neighbour of one on the opposite side.
        side = int(self.coords.max()) + 3 if len(self) else 3
        strides = torch.tensor([side * side, side, 1], device=self.coords.device)
        keys, order = ((self.coords + 1) @ strides).sort()
        steps = (OFFSETS.to(keys) @ strides).tolist()
        before = []
        for step in steps[:CENTRE]:
            wanted = keys + step
            at = torch.searchsorted(keys, wanted)
            found = torch.nonzero(keys[at] == wanted)[:, 0]  # `at` is never the end: steps are negative
            before.append((order[found].int(), order[at[found]].int()))
        itself = torch.arange(len(self), dtype=torch.int32, device=keys.device)
        after = [(neighbour, voxel) for voxel, neighbour in reversed(before)]
        return [*before, (itself, itself), *after]

    @cached_property
    def coarser(self) -> tuple[VoxelGrid, Int[Tensor, "N"]]:
        """The grid of half the resolution, in ascending order of x, y, z; and the row of each voxel's parent in it."""
        parents, of_voxel = torch.unique(self.coords // 2, dim=0, return_inverse=True)
        return VoxelGrid(parents), of_voxel

    @cached_property
    def finer(self) -> VoxelGrid:
        """The grid of twice the resolution: all children of the first voxel, then those of the second, and so on."""
        children = 2 * self.coords[:, None] + CHILDREN.to(self.coords)
        return VoxelGrid(children.flatten(0, 1))

    def windows(self, size: int, shift: int) -> list[Int[Tensor, "W L"]]:
        """The rows of the voxels in each window, a cube. Each array holds the W windows that have L voxels.

        Args:
            size: Voxels along a window's side.
            shift: Shift of the windows: added to the coordinates before they are divided by `size`.
        """
        if (size, shift) not in self._windows:
            _, window, counts = torch.unique(
                (self.coords + shift) // size, dim=0, return_inverse=True, return_counts=True
            )
            rows = window.argsort(stable=True).split(counts.tolist())
            lengths = counts.unique().tolist()
            of_length = {length: [part for part in rows if len(part) == length] for length in lengths}
            self._windows[size, shift] = [torch.stack(parts) for parts in of_length.values()]
        return self._windows[size, shift]


def position_embedding(coords: Int[Tensor, "N 3"], channels: int) -> Float[Tensor, "N C"]:
    """For each coordinate, sines and then cosines at `channels // 6` frequencies; zeros fill the remaining channels."""
    count = channels // 6
    exponents = torch.arange(count, dtype=torch.float32, device=coords.device) / count
    angles = coords[..., None].float() * (1 / MAX_PERIOD**exponents)
    embedded = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return torch.nn.functional.pad(embedded, (0, channels - embedded.shape[1]))


def downsampled(features: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B M C"]:
    """Features on the coarser grid: the sum over a voxel's children, divided by their number plus one. The networks
    were trained with this."""
    coarse, parent = grid.coarser
    ones = torch.ones(len(parent), device=features.device)
    counts = torch.zeros(len(coarse), device=features.device).index_add_(0, parent, ones)
    sums = features.new_zeros(len(features), len(coarse), features.shape[2]).index_add_(1, parent, features)
    return sums / (counts + 1).to(features)[:, None]
