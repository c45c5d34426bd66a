# SPDX-License-Identifier: Apache-2.0
"""TripoSR's transformer: tokens of three planes attend to each other and to the tokens of an image.

Names of weights are those of diffusers' Transformer1D, in which the published network stores them.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu

from img3d_generators.networks.attention import attended

NUM_GROUPS, GROUP_NORM_EPS = 32, 1e-6
MLP_FACTOR = 4
"""Channels inside an MLP, in multiples of the tokens'."""
TOKENS_AT_A_TIME = 128
"""Tokens that go through an MLP together: all 3,072 at once take 0.3 GB more memory, 512 take 0.1 GB more."""


class TriplaneTransformer(nn.Module):
    """The blocks between two projections, with a shortcut around everything.

    Args:
        channels: Channels of a plane's tokens.
        num_heads: Heads of the attentions.
        head_size: Channels of each head.
        num_layers: Number of blocks.
        context_channels: Channels of the image's tokens.
    """

    def __init__(self, channels: int, num_heads: int, head_size: int, num_layers: int, context_channels: int) -> None:
        super().__init__()
        size = num_heads * head_size
        self.norm = nn.GroupNorm(NUM_GROUPS, channels, GROUP_NORM_EPS)
        self.proj_in = nn.Linear(channels, size)
        self.transformer_blocks = nn.ModuleList([Block(size, num_heads, context_channels) for _ in range(num_layers)])
        self.proj_out = nn.Linear(size, channels)

    def forward(self, planes: Float[Tensor, "B C T"], context: Float[Tensor, "B S D"]) -> Float[Tensor, "B C T"]:
        """Updates the planes' tokens; `context` are the image's tokens."""
        tokens = self.proj_in(self.norm(planes).transpose(1, 2))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return self.proj_out(tokens).transpose(1, 2) + planes


class Block(nn.Module):
    """Self-attention, attention to the image, and a gated MLP, each after a layer normalisation."""

    def __init__(self, channels: int, num_heads: int, context_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context_channels, num_heads)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = GatedMlp(channels)

    def forward(self, tokens: Float[Tensor, "B T C"], context: Float[Tensor, "B S D"]) -> Float[Tensor, "B T C"]:
        normed = self.norm1(tokens)
        tokens = tokens + self.attn1(normed, normed)
        tokens = tokens + self.attn2(self.norm2(tokens), context)
        return tokens + self.ff(self.norm3(tokens))


class Attention(nn.Module):
    """Multi-head attention of tokens to a context."""

    def __init__(self, channels: int, context_channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_channels, channels, bias=False)
        self.to_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, tokens: Float[Tensor, "B T C"], context: Float[Tensor, "B S D"]) -> Float[Tensor, "B T C"]:
        gathered = attended(self.to_q(tokens), self.to_k(context), self.to_v(context), self.num_heads)
        return self.to_out[0](gathered)


class GatedMlp(nn.Module):
    """Two linear layers; one half of the first one's output, through a GELU, gates the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = MLP_FACTOR * channels
        first = nn.ModuleDict({"proj": nn.Linear(channels, 2 * inside)})
        self.net = nn.ModuleDict({"0": first, "2": nn.Linear(inside, channels)})

    def forward(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return torch.cat([self._of_some(part) for part in torch.split(tokens, TOKENS_AT_A_TIME, dim=1)], dim=1)

    def _of_some(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        first: Any = self.net["0"]
        values, gates = first["proj"](tokens).chunk(2, dim=-1)
        return self.net["2"](values * gelu(gates))
