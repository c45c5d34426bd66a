# SPDX-License-Identifier: Apache-2.0
"""Convolutions and other layers on the occupied voxels of a grid. Features are `[B, N, C]`.

Convolutions are submanifold convolutions (Graham et al. 2018, arXiv 1711.10275): the result has the same voxels, and
all other voxels count as zero.
"""

from __future__ import annotations

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, silu

from img3d_generators.trellis.voxels import CENTRE, CHILDREN, VoxelGrid, downsampled

NORM_EPS = 1e-6
GROUPS = 32
ROWS_AT_A_TIME = 1 << 16
"""Number of features that are gathered at a time, which limits a convolution's memory."""


class Kernel(nn.Module):
    """The weights of a convolution, as spconv stores them: `[out, x, y, z, in]`."""

    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        bound = (in_channels * size**3) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_channels, size, size, size, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))


class SparseConv(nn.Module):
    """A convolution with a kernel of 3 x 3 x 3 voxels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Kernel(in_channels, out_channels, 3)

    def forward(self, features: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B N D"]:
        weight = self.conv.weight.flatten(1, 3)
        result = linear(features, weight[:, CENTRE], self.conv.bias).float()
        for i, (voxels, neighbours) in enumerate(grid.neighbours):
            if i != CENTRE:
                _add_products(result, voxels, features, neighbours, weight[:, i])
        return result

    def on_children(self, features: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B M D"]:
        """The convolution on the finer grid, where each voxel's 8 children have its features.

        The 27 voxels around a child have 8 parents, so that 8 products with sums of the weights suffice.
        """
        kernel = self.conv.weight
        result = features.new_zeros(len(features), len(grid), len(CHILDREN), len(kernel), dtype=torch.float32)
        result += self.conv.bias
        for child, place in enumerate(CHILDREN.tolist()):
            of_child = result[:, :, child]
            # Along an axis, the kernel at the first child covers a child of the parent's predecessor and both of the
            # parent; at the second child, both of the parent and one of its successor.
            shares = [((0, (0,)), (1, (1, 2))) if second == 0 else ((1, (0, 1)), (2, (2,))) for second in place]
            for (x, of_x), (y, of_y), (z, of_z) in itertools.product(*shares):
                weight = sum(kernel[:, i, j, k] for i, j, k in itertools.product(of_x, of_y, of_z))
                assert isinstance(weight, Tensor)
                voxels, neighbours = grid.neighbours[9 * x + 3 * y + z]
                _add_products(of_child, voxels, features, neighbours, weight)
        return result.flatten(1, 2)


def _add_products(
    result: Float[Tensor, "B N D"],
    to: Tensor,
    features: Float[Tensor, "B M C"],
    source: Tensor,
    weight: Float[Tensor, "D C"],
) -> None:
    """Multiplies the features of the rows `source` by a weight, and adds the products to the rows `to`."""
    for rows, taken in zip(to.split(ROWS_AT_A_TIME), source.split(ROWS_AT_A_TIME), strict=True):
        result.index_add_(1, rows, linear(features.index_select(1, taken), weight).to(result.dtype))


class SparsePointwise(nn.Module):
    """A convolution with a kernel of one voxel, as spconv computes it: it reinterprets the memory of the weights `[out,
    in]` as `[in, out]`, and the networks were trained so."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Kernel(in_channels, out_channels, 1)

    def forward(self, features: Float[Tensor, "B N C"]) -> Float[Tensor, "B N D"]:
        weight = self.conv.weight
        return linear(features, weight.reshape(weight.shape[-1], len(weight)).T, self.conv.bias)


class VoxelGroupNorm(nn.GroupNorm):
    """Group normalisation with statistics over all voxels."""

    def forward(self, input: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:  # its name in torch
        return super().forward(input.float().transpose(1, 2)).transpose(1, 2)


class SparseResBlock(nn.Module):
    """Two convolutions and a shortcut. An embedding modulates the second normalisation.

    Args:
        channels: Channels of the features.
        embedding_channels: Channels of the embedding.
        out_channels: Channels of the result.
        resample: "down": features are first resampled to the coarser grid; "up": first from it; "": neither.
    """

    def __init__(self, channels: int, embedding_channels: int, out_channels: int, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.norm1 = nn.LayerNorm(channels, NORM_EPS)
        self.conv1 = SparseConv(channels, out_channels)
        self.conv2 = SparseConv(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_channels, 2 * out_channels))
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Linear(channels, out_channels)

    def forward(
        self, features: Float[Tensor, "B N C"], embedding: Float[Tensor, "b E"], grid: VoxelGrid
    ) -> Float[Tensor, "B M D"]:
        """The features on the grid; on the coarser one if `resample` is "down".

        Args:
            features: Features on the grid; on the coarser one if `resample` is "up".
            embedding: One for each set of features, or one for all.
            grid: The grid; with `resample`, the finer one of the two.
        """
        if self.resample == "down":
            features, grid = downsampled(features, grid), grid.coarser[0]
        elif self.resample == "up":
            features = features.index_select(1, grid.coarser[1])
        scale, shift = self.emb_layers(embedding)[:, None].float().chunk(2, dim=-1)
        hidden = self.conv1(silu(self.norm1(features.float())), grid)
        hidden = layer_norm(hidden, hidden.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift
        return self.conv2(silu(hidden), grid) + self.skip_connection(features)


class SubdivideBlock(nn.Module):
    """Divides each voxel into 8, with two convolutions and a shortcut."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.act_layers = nn.Sequential(VoxelGroupNorm(GROUPS, channels), nn.SiLU())
        self.out_layers = nn.ModuleDict(
            {
                "0": SparseConv(channels, out_channels),
                "1": VoxelGroupNorm(GROUPS, out_channels),
                "3": SparseConv(out_channels, out_channels),
            }
        )
        self.skip_connection = SparsePointwise(channels, out_channels)

    def forward(self, features: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B M D"]:
        """The features on the finer grid."""
        first, norm, second = (self.out_layers[name] for name in ("0", "1", "3"))
        assert isinstance(first, SparseConv)
        hidden = second(silu(norm(first.on_children(self.act_layers(features), grid))), grid.finer)
        return hidden + self.skip_connection(features).repeat_interleave(len(CHILDREN), dim=1)
