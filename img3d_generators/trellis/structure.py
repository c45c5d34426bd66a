# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's first stage (Xiang et al. 2024, arXiv 2412.01506): turns noise into a coarse latent of the object's
structure, which a decoder turns into occupied voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from img3d_generators.trellis.transformer import FlowTransformer, KeysValues, normed
from img3d_generators.trellis.voxels import position_embedding

LAST_EPS = 1e-5
"""Epsilon of the last normalisation, and of the decoder's normalisations."""


@dataclass(frozen=True)
class FlowConfig:
    """The architecture of a flow. The defaults are those of the published flow of structures."""

    resolution: int = 16
    """Voxels along the grid's side."""
    in_channels: int = 8
    """Channels of the latent."""
    model_channels: int = 1024
    """Channels of the tokens."""
    cond_channels: int = 1024
    """Channels of the condition's tokens."""
    num_blocks: int = 24
    """Blocks of the transformer."""
    num_heads: int = 16
    """Heads of the attentions."""
    mlp_ratio: float = 4
    """Channels inside an MLP, in multiples of the tokens'."""


@dataclass(frozen=True)
class StructureDecoderConfig:
    """The architecture of the decoder of occupied voxels, as published."""

    latent_channels: int = 8
    """Channels of the latent."""
    channels: tuple[int, ...] = (512, 128, 32)
    """Channels at each resolution. The resolution doubles from each to the next."""
    num_res_blocks: int = 2
    """Residual blocks at each resolution."""
    num_res_blocks_middle: int = 2
    """Additional residual blocks at the first resolution."""


class StructureFlow(FlowTransformer):
    """The velocity of a latent on a full grid. Each voxel is a token."""

    pos_emb: Tensor

    def __init__(self, config: FlowConfig) -> None:
        channels = config.model_channels
        super().__init__(channels, config.num_heads, config.cond_channels, config.num_blocks, config.mlp_ratio)
        self.config = config
        places = torch.cartesian_prod(*(torch.arange(config.resolution),) * 3)
        self.register_buffer("pos_emb", position_embedding(places, channels))
        self.input_layer = nn.Linear(config.in_channels, channels)
        self.out_layer = nn.Linear(channels, config.in_channels)

    def forward(
        self,
        latents: Float[Tensor, "B C X Y Z"],
        time: Float[Tensor, "b"],
        conditions: Sequence[Sequence[KeysValues]],
    ) -> Float[Tensor, "B C X Y Z"]:
        """The velocities.

        Args:
            latents: B latents between noise and objects.
            time: 1000 at noise, 0 at the object; one for each latent or one for all.
            conditions: The `prepared` condition of each latent.
        """
        tokens = self.input_layer(latents.flatten(2).transpose(1, 2)) + self.pos_emb
        tokens = self.transformed(tokens, self.t_embedder(time), conditions)
        velocities = self.out_layer(normed(tokens, LAST_EPS))
        return velocities.float().transpose(1, 2).unflatten(2, latents.shape[2:])


class StructureDecoder(nn.Module):
    """Decodes a latent to the occupancy of voxels, by dense convolutions."""

    def __init__(self, config: StructureDecoderConfig) -> None:
        super().__init__()
        first, last = config.channels[0], config.channels[-1]
        self.input_layer = nn.Conv3d(config.latent_channels, first, 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock3d(first) for _ in range(config.num_res_blocks_middle)))
        blocks: list[nn.Module] = []
        for channels, finer in zip(config.channels, (*config.channels[1:], 0), strict=True):
            blocks += [ResBlock3d(channels) for _ in range(config.num_res_blocks)]
            blocks += [UpsampleBlock3d(channels, finer)] if finer else []
        self.blocks = nn.Sequential(*blocks)
        self.out_layer = nn.Sequential(ChannelNorm(last), nn.SiLU(), nn.Conv3d(last, 1, 3, padding=1))

    def forward(self, latents: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B 1 U V W"]:
        """Logits of the occupancy, at a higher resolution."""
        return self.out_layer(self.blocks(self.middle_block(self.input_layer(latents)))).float()


def occupied(logits: Float[Tensor, "1 1 X Y Z"]) -> Int[Tensor, "N 3"]:
    """The voxels whose logits are positive, in ascending order of x, y, z."""
    return torch.nonzero(logits[0, 0] > 0)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each voxel of a full grid, in float32."""

    def forward(self, input: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:  # its name in torch
        return super().forward(input.float().movedim(1, -1)).movedim(-1, 1)


class ResBlock3d(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels, LAST_EPS), ChannelNorm(channels, LAST_EPS)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, features: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C X Y Z"]:
        return features + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(features))))))


class UpsampleBlock3d(nn.Module):
    """Doubles the resolution: a convolution makes the channels of each voxel's 8 children."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, features: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D U V W"]:
        children = self.conv(features).unflatten(1, (-1, 2, 2, 2))
        return children.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
