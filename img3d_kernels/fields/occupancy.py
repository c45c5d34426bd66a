# SPDX-License-Identifier: Apache-2.0
"""Which cells of a field's space are worth samples: Instant-NGP's occupancy grid (Müller et al. 2022, arXiv 2201.05989,
appendix E.2). A contracted space needs one grid only, as its cells grow with the distance.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from img3d_kernels.fields.radiance_field import FieldParameters, density
from img3d_kernels.fields.rays import Marching

MIN_THICKNESS = 0.01
"""Optical thickness of a step below which a cell counts as empty."""
DECAY = 0.8
"""Factor of a cell's thickness each time that it is looked at again, so that it can become empty."""
SHARE = 1 / 32
"""Of the cells that an update looks at."""


class OccupancyGrid(torch.nn.Module):
    """The optical thickness of a step in each cell, as far as known, and a bit for each cell that is not empty.

    Args:
        size: Cells along an axis of the unit cube; a multiple of 4.
    """

    thickness: Float[Tensor, "cells"]
    bits: Int32[Tensor, "words"]

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 4 or size % 4:
            raise ValueError(f"the size of an occupancy grid must be a multiple of 4, got {size}")
        self.size = size
        self.register_buffer("thickness", torch.zeros(size**3))
        self.register_buffer("bits", torch.full((size**3 // 32,), -1, dtype=torch.int32))

    def occupied_share(self) -> float:
        """The share of cells that are not empty."""
        counted = np.unpackbits(self.bits.cpu().numpy().view(np.uint8)).sum()
        return float(counted) / self.size**3

    @torch.no_grad()
    def update(self, field: FieldParameters, marching: Marching, everywhere: bool = False) -> None:
        """Looks at random points of some cells, half of them in cells that are not empty.

        Args:
            field: The field.
            marching: Its steps decide which density counts; in a contracted space, for cameras around the origin.
            everywhere: Look at all cells instead.
        """
        cells, device = self.size**3, self.thickness.device
        if everywhere:
            chosen = torch.arange(cells, device=device)
        else:
            count = max(1, int(SHARE * cells / 2))
            occupied = (self.thickness > MIN_THICKNESS).nonzero()[:, 0]
            if len(occupied):
                occupied = occupied[torch.randint(len(occupied), (count,), device=device)]
            chosen = torch.cat([torch.randint(cells, (count,), device=device), occupied])
        corners = torch.stack([chosen // self.size**2, chosen // self.size % self.size, chosen % self.size], dim=-1)
        points = field.space.from_unit((corners + torch.rand(len(chosen), 3, device=device)) / self.size)
        steps = points.norm(dim=-1).mul_(marching.cone).clamp_min_(marching.min_step)
        found = density(field, points.to(field.table.dtype)) * steps
        self.thickness[chosen] = torch.maximum(self.thickness[chosen] * DECAY, found.float())
        self._find_bits()

    def _find_bits(self) -> None:
        occupied = (self.thickness > MIN_THICKNESS).cpu().numpy()
        words = np.packbits(occupied, bitorder="little").view(np.int32)
        self.bits.copy_(torch.from_numpy(words))
