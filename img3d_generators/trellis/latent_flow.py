# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's second stage: turns noise at the occupied voxels into latents, which describe shape and colour there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from img3d_generators.trellis.sparse_layers import SparseResBlock
from img3d_generators.trellis.structure import LAST_EPS, FlowConfig
from img3d_generators.trellis.transformer import FlowTransformer, KeysValues, normed
from img3d_generators.trellis.voxels import VoxelGrid, position_embedding


@dataclass(frozen=True)
class LatentFlowConfig(FlowConfig):
    """The architecture, as published."""

    resolution: int = 64
    """Voxels along the grid's side; the transformer's grid has half the resolution."""
    io_channels: int = 128
    """Channels of the convolutions before and after the transformer."""


class LatentFlow(FlowTransformer):
    """The velocity of latents on occupied voxels: a U-Net of two levels with the transformer at the coarser one."""

    def __init__(self, config: LatentFlowConfig) -> None:
        channels, thin = config.model_channels, config.io_channels
        super().__init__(channels, config.num_heads, config.cond_channels, config.num_blocks, config.mlp_ratio)
        self.config = config
        self.input_layer = nn.Linear(config.in_channels, thin)
        self.input_blocks = nn.ModuleList(
            [SparseResBlock(thin, channels, thin), SparseResBlock(thin, channels, channels, "down")]
        )
        self.out_blocks = nn.ModuleList(
            [SparseResBlock(2 * channels, channels, thin, "up"), SparseResBlock(2 * thin, channels, thin)]
        )
        self.out_layer = nn.Linear(thin, config.in_channels)

    def forward(
        self,
        latents: Float[Tensor, "B N C"],
        time: Float[Tensor, "b"],
        conditions: Sequence[Sequence[KeysValues]],
        grid: VoxelGrid,
    ) -> Float[Tensor, "B N C"]:
        """The velocities.

        Args:
            latents: B sets of the voxels' latents, between noise and objects.
            time: 1000 at noise, 0 at the object; one for each set or one for all.
            conditions: The `prepared` condition of each set.
            grid: The voxels.
        """
        embedding = self.t_embedder(time)
        fine = self.input_blocks[0](self.input_layer(latents), embedding, grid)
        coarse = self.input_blocks[1](fine, embedding, grid)
        tokens = coarse + position_embedding(grid.coarser[0].coords, self.config.model_channels)
        tokens = self.transformed(tokens, embedding, conditions)
        hidden = self.out_blocks[0](torch.cat([tokens, coarse], dim=-1), embedding, grid)
        hidden = self.out_blocks[1](torch.cat([hidden, fine], dim=-1), embedding, grid)
        return self.out_layer(normed(hidden, LAST_EPS)).float()
