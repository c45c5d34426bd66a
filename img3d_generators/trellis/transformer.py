# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's transformer blocks: those of the flows, which are modulated by the time and attend to a condition, and
those of the decoders, in which voxels attend to those in the same window."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from img3d_generators.networks.attention import attended
from img3d_generators.trellis.voxels import VoxelGrid

BLOCK_EPS = 1e-6
"""Epsilon of the normalisations inside blocks; those at the end of a network have torch's default."""
TIME_FREQUENCIES = 256
MAX_PERIOD = 10000

KeysValues = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]
"""Keys and values of a condition's S tokens in the cross-attention of a block, each `[S, C]`."""


def normed(tokens: Float[Tensor, "B T C"], eps: float = BLOCK_EPS) -> Float[Tensor, "B T C"]:
    """Layer normalisation without parameters, in float32."""
    return layer_norm(tokens.float(), tokens.shape[-1:], eps=eps)


class TimeEmbedder(nn.Module):
    """An embedding of the time in a flow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FREQUENCIES, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, time: Float[Tensor, "B"]) -> Float[Tensor, "B C"]:
        return self.mlp(time_waves(time))


def time_waves(time: Float[Tensor, "B"]) -> Float[Tensor, "B F"]:
    """Cosines, then sines, of the time, which is 1000 at noise and 0 at the object."""
    half = TIME_FREQUENCIES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = time[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class HeadNorm(nn.Module):
    """Normalises the vector of each head, and scales it by learned factors."""

    def __init__(self, num_heads: int, head_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_heads, head_channels))

    def forward(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        heads = tokens.float().unflatten(-1, self.gamma.shape)
        return (normalize(heads, dim=-1) * self.gamma * self.gamma.shape[1] ** 0.5).flatten(2).to(tokens.dtype)


class SelfAttention(nn.Module):
    """Attention among all tokens, or among the voxels of each window.

    Args:
        channels: Channels of the tokens.
        num_heads: Number of heads.
        head_norm: Whether queries and keys are normalised.
        window: Voxels along a window's side; 0: no windows.
        shift: Shift of the windows in voxels.
    """

    def __init__(self, channels: int, num_heads: int, head_norm: bool = False, window: int = 0, shift: int = 0) -> None:
        super().__init__()
        self.num_heads, self.window, self.shift = num_heads, window, shift
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        if head_norm:
            self.q_rms_norm = HeadNorm(num_heads, channels // num_heads)
            self.k_rms_norm = HeadNorm(num_heads, channels // num_heads)
        self.head_norm = head_norm

    def forward(self, tokens: Float[Tensor, "B T C"], grid: VoxelGrid | None = None) -> Float[Tensor, "B T C"]:
        q, k, v = self.to_qkv(tokens).chunk(3, dim=-1)
        if self.head_norm:
            q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        if self.window == 0:
            return self.to_out(attended(q, k, v, self.num_heads))
        assert grid is not None
        return self.to_out(attended_in_windows(q, k, v, self.num_heads, grid, self.window, self.shift))


def attended_in_windows(
    q: Float[Tensor, "B N C"],
    k: Float[Tensor, "B N C"],
    v: Float[Tensor, "B N C"],
    num_heads: int,
    grid: VoxelGrid,
    window: int,
    shift: int,
) -> Float[Tensor, "B N C"]:
    """Attention of each voxel to the voxels in its window (`VoxelGrid.windows`)."""
    windows = grid.windows(window, shift)
    parts = []
    for rows in windows:
        queries, keys, values = (part[:, rows].flatten(0, 1) for part in (q, k, v))
        parts.append(attended(queries, keys, values, num_heads).view(len(q), rows.numel(), -1))
    order = torch.cat([rows.flatten() for rows in windows])
    return torch.cat(parts, dim=1)[:, order.argsort()]


class CrossAttention(nn.Module):
    """Attention to the tokens of a condition."""

    def __init__(self, channels: int, num_heads: int, condition_channels: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(condition_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def keys_and_values(self, condition: Float[Tensor, "S D"]) -> KeysValues:
        """The keys and values of a condition, which depend neither on the tokens nor on the time."""
        keys, values = self.to_kv(condition).chunk(2, dim=-1)
        return keys, values

    def forward(self, tokens: Float[Tensor, "B T C"], conditions: Sequence[KeysValues]) -> Float[Tensor, "B T C"]:
        """Attends to conditions.

        Args:
            tokens: B sets of tokens.
            conditions: The condition of each set; their lengths may differ.
        """
        queries = self.to_q(tokens).split(1)
        gathered = [
            attended(query, keys[None], values[None], self.num_heads)
            for query, (keys, values) in zip(queries, conditions, strict=True)
        ]
        return self.to_out(torch.cat(gathered))


class Mlp(nn.Module):
    """Two linear layers with a GELU, approximated by tanh, between them."""

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        hidden = int(channels * factor)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU("tanh"), nn.Linear(hidden, channels))

    def forward(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.mlp(tokens)


class FlowBlock(nn.Module):
    """Self-attention, attention to the condition, and an MLP. The time modulates the first and the last (Peebles and
    Xie 2022, arXiv 2212.09748)."""

    def __init__(self, channels: int, num_heads: int, condition_channels: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(channels, BLOCK_EPS)
        self.self_attn = SelfAttention(channels, num_heads, head_norm=True)
        self.cross_attn = CrossAttention(channels, num_heads, condition_channels)
        self.mlp = Mlp(channels, mlp_ratio)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(
        self, tokens: Float[Tensor, "B T C"], time: Float[Tensor, "b C"], conditions: Sequence[KeysValues]
    ) -> Float[Tensor, "B T C"]:
        modulation = self.adaLN_modulation(time)[:, None].float().chunk(6, dim=-1)
        shift_attention, scale_attention, gate_attention, shift_mlp, scale_mlp, gate_mlp = modulation
        tokens = tokens + gate_attention * self.self_attn(normed(tokens) * (1 + scale_attention) + shift_attention)
        tokens = tokens + self.cross_attn(self.norm2(tokens), conditions)
        return tokens + gate_mlp * self.mlp(normed(tokens) * (1 + scale_mlp) + shift_mlp)


class FlowTransformer(nn.Module):
    """Base class of the two flows: the time's embedding, the conditions, and the blocks.

    Args:
        channels: Channels of the tokens.
        num_heads: Heads of the attentions.
        condition_channels: Channels of the condition's tokens.
        num_blocks: Number of blocks.
        mlp_ratio: Channels inside an MLP, in multiples of the tokens'.
    """

    def __init__(
        self, channels: int, num_heads: int, condition_channels: int, num_blocks: int, mlp_ratio: float
    ) -> None:
        super().__init__()
        self.t_embedder = TimeEmbedder(channels)
        self.blocks = nn.ModuleList(
            [FlowBlock(channels, num_heads, condition_channels, mlp_ratio) for _ in range(num_blocks)]
        )

    def prepared(self, condition: Float[Tensor, "S D"]) -> list[KeysValues]:
        """A condition's keys and values in each block, which are the same in all steps."""
        return [block.cross_attn.keys_and_values(condition) for block in self.blocks]  # pyright: ignore

    def transformed(
        self,
        tokens: Float[Tensor, "B T C"],
        time: Float[Tensor, "b C"],
        conditions: Sequence[Sequence[KeysValues]],
    ) -> Float[Tensor, "B T C"]:
        """The tokens after all blocks.

        Args:
            tokens: B sets of tokens.
            time: The time's embedding: one for each set or one for all.
            conditions: The `prepared` condition of each set.
        """
        for block, of_block in zip(self.blocks, zip(*conditions, strict=True), strict=True):
            tokens = block(tokens, time, of_block)
        return tokens


class DecoderBlock(nn.Module):
    """Attention in windows and an MLP."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, window: int, shift: int) -> None:
        super().__init__()
        self.attn = SelfAttention(channels, num_heads, window=window, shift=shift)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, tokens: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B N C"]:
        tokens = tokens + self.attn(normed(tokens), grid)
        return tokens + self.mlp(normed(tokens))
