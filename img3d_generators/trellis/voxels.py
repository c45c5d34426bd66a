# SPDX-License-Identifier: Apache-2.0
"""The occupied voxels of one object, and what the layers of a sparse network need to know of them.

Features are `[B, N, C]`: B sets of features on the same N voxels, so that a guided step is one batch. Which voxel has
which neighbours, which lie in one window, and which have one parent is found once for all layers.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

OFFSETS = torch.cartesian_prod(*(torch.tensor([-1, 0, 1]),) * 3)
"""From a voxel to itself and its 26 neighbours, `[27, 3]`, z fastest: the order of a convolution's weights."""
CENTRE = len(OFFSETS) // 2
CHILDREN = torch.cartesian_prod(*(torch.tensor([0, 1]),) * 3)
"""From the first of a voxel's 8 children to all of them, `[8, 3]`, z fastest."""
MAX_PERIOD = 10000
"""Of the sines that say where a voxel is, in voxels, but for a factor of 2 pi."""


class VoxelGrid:
    """N different voxels.

    Args:
        coords: Their places in the grid, in any order; the order of their features.
    """

    def __init__(self, coords: Int[Tensor, "N 3"]) -> None:
        self.coords = coords.long()
        self._windows: dict[tuple[int, int], list[Int[Tensor, "W L"]]] = {}

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def neighbours(self) -> list[tuple[Int[Tensor, "P"], Int[Tensor, "P"]]]:
        """For each of `OFFSETS`, the voxels that have a neighbour there, and these neighbours."""
        side = int(self.coords.max()) + 3 if len(self) else 3  # a border: nobody is the neighbour of the opposite side
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
        """The voxels in each cube of `size` voxels a side, as their rows: windows with equally many together.

        Args:
            size: Voxels along each side.
            shift: Added to the coordinates before they are divided.
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
    """Sines, then cosines, of each coordinate, at as many frequencies as there is room for; zeros fill the rest."""
    count = channels // 6
    exponents = torch.arange(count, dtype=torch.float32, device=coords.device) / count
    angles = coords[..., None].float() * (1 / MAX_PERIOD**exponents)
    embedded = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return torch.nn.functional.pad(embedded, (0, channels - embedded.shape[1]))


def downsampled(features: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B M C"]:
    """Features on the coarser grid: the sum over a voxel's children, divided by one more than their number.

    A mean that counts a zero, too: networks were trained with it.
    """
    coarse, parent = grid.coarser
    ones = torch.ones(len(parent), device=features.device)
    counts = torch.zeros(len(coarse), device=features.device).index_add_(0, parent, ones)
    sums = features.new_zeros(len(features), len(coarse), features.shape[2]).index_add_(1, parent, features)
    return sums / (counts + 1).to(features)[:, None]
