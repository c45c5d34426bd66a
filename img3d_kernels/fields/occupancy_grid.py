# SPDX-License-Identifier: Apache-2.0
"""Instant-NGP's occupancy grid (Müller et al. 2022, arXiv 2201.05989, appendix E.2): which cells of a field's
space need samples."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters, density

DECAY = 0.8
"""Factor of a cell's known density at each update of the cell, so that it can become empty."""
SHARE = 1 / 32
"""Share of the cells that an update samples."""


class OccupancyGrid(torch.nn.Module):
    """The highest density found lately in each cell of the unit cube, which a `FieldSpace` maps to the world.

    Args:
        size: Cells along an axis; a multiple of 4.

    Raises:
        ValueError: The size is not a positive multiple of 4.
    """

    density: Float[Tensor, "cells"]
    """Per world unit, x slowest."""

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise ValueError(f"the size of an occupancy grid must be a multiple of 4, got {size}")
        self.size = size
        self.register_buffer("density", torch.zeros(size**3))

    @torch.no_grad()
    def update(self, field: FieldParameters, least: float, everywhere: bool = False) -> None:
        """Samples the density at a random point of some cells: half of them any cells, half of them cells that are not
        empty.

        Args:
            field: The field.
            least: Cells with at most this density are empty.
            everywhere: Sample all cells instead.
        """
        cells, device = self.size**3, self.density.device
        if everywhere:
            chosen = torch.arange(cells, device=device)
        else:
            count = max(1, int(SHARE * cells / 2))
            occupied = (self.density > least).nonzero()[:, 0]
            if len(occupied):
                occupied = occupied[torch.randint(len(occupied), (count,), device=device)]
            chosen = torch.cat([torch.randint(cells, (count,), device=device), occupied])
        corners = torch.stack([chosen // self.size**2, chosen // self.size % self.size, chosen % self.size], dim=-1)
        points = field.space.from_unit((corners + torch.rand(len(chosen), 3, device=device)) / self.size)
        found = density(field, points.to(field.table.dtype)).float()
        self.density[chosen] = torch.maximum(self.density[chosen] * DECAY, found)

    def bits(self, least: float) -> Int32[Tensor, "words"]:
        """A bit for each cell, 0 if its density is at most `least`; in the order of `FieldSpace.occupied`."""
        occupied = (self.density > least).cpu().numpy()
        words = np.packbits(occupied, bitorder="little").view(np.int32)
        return torch.from_numpy(words).to(self.density.device)
