# SPDX-License-Identifier: Apache-2.0
"""InstantMesh's transformer: tokens of three planes attend to the tokens of all views and to each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from img3d_generators.networks.plane_tokens import planes_of

LAST_NORM_EPS = 1e-6
"""Epsilon of the last normalisation; those of the blocks have torch's default."""
MLP_FACTOR = 4
"""Channels inside an MLP, in multiples of the tokens'."""


class ViewTransformer(nn.Module):
    """Turns learned tokens, the same for every object, into planes.

    Args:
        channels: Channels of the planes' tokens.
        num_heads: Heads of the attentions.
        num_layers: Number of blocks.
        context_channels: Channels of the views' tokens.
        plane_size: Tokens along each side of a plane.
        plane_channels: Channels of the finished planes, which are twice as large.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_layers: int,
        context_channels: int,
        plane_size: int,
        plane_channels: int,
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 3 * plane_size**2, channels) / channels**0.5)
        self.layers = nn.ModuleList([Block(channels, num_heads, context_channels) for _ in range(num_layers)])
        self.norm = nn.LayerNorm(channels, LAST_NORM_EPS)
        self.deconv = nn.ConvTranspose2d(channels, plane_channels, kernel_size=2, stride=2)

    def forward(self, context: Float[Tensor, "B S D"]) -> Float[Tensor, "B 3 C H W"]:
        """The planes; `context` are the tokens of all views, one view after the other."""
        tokens = self.pos_embed.expand(len(context), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, context)
        return planes_of(self.norm(tokens).transpose(1, 2), self.deconv)


class Block(nn.Module):
    """Attention to the views, self-attention, and an MLP, each after a layer normalisation and with a shortcut."""

    def __init__(self, channels: int, num_heads: int, context_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn = nn.MultiheadAttention(
            channels, num_heads, bias=False, kdim=context_channels, vdim=context_channels, batch_first=True
        )
        self.norm2 = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, num_heads, bias=False, batch_first=True)
        self.norm3 = nn.LayerNorm(channels)
        first, second = nn.Linear(channels, MLP_FACTOR * channels), nn.Linear(MLP_FACTOR * channels, channels)
        self.mlp = nn.ModuleDict({"0": first, "3": second})

    def forward(self, tokens: Float[Tensor, "B T C"], context: Float[Tensor, "B S D"]) -> Float[Tensor, "B T C"]:
        tokens = tokens + self.cross_attn(self.norm1(tokens), context, context, need_weights=False)[0]
        normed = self.norm2(tokens)
        tokens = tokens + self.self_attn(normed, normed, normed, need_weights=False)[0]
        return tokens + self.mlp["3"](nn.functional.gelu(self.mlp["0"](self.norm3(tokens))))
