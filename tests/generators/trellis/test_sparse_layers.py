# SPDX-License-Identifier: Apache-2.0
"""Layers on occupied voxels: the reference's numbers, and what they are on a full grid."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from golden import Golden, fill_parameters, golden_fixtures
from torch import nn
from trellis_goldens import array, check

from img3d_generators.networks.attention import attended
from img3d_generators.trellis.sparse_layers import (
    SparseConv,
    SparsePointwise,
    SparseResBlock,
    SubdivideBlock,
    VoxelGroupNorm,
)
from img3d_generators.trellis.transformer import HeadNorm, attended_in_windows
from img3d_generators.trellis.voxels import VoxelGrid, downsampled, position_embedding


def items(golden: Golden) -> list[torch.Tensor]:
    """The rows of each object in the fixture's batch."""
    batch = array(golden, "coords")[:, 0]
    return [torch.nonzero(batch == one)[:, 0] for one in batch.unique()]


@golden_fixtures("trellis_", "conv3", "attention_full")
@torch.no_grad()
def test_every_layer_gives_the_references_numbers(golden: Golden) -> None:
    seed, feats, coords = golden.sidecar["seed"], array(golden, "feats")[None], array(golden, "coords")[:, 1:]
    channels, out = feats.shape[2], golden.arrays["conv3"].shape[1]
    conv, pointwise, square = (
        SparseConv(channels, out),
        SparsePointwise(channels, out),
        SparsePointwise(*(channels,) * 2),
    )
    for layer in (conv, pointwise, square):
        fill_parameters(layer, seed)
    embedding = array(golden, "res_emb")
    width = golden.arrays["res_wide"].shape[1]
    sizes = {"res": (channels, ""), "res_wide": (width, ""), "res_down": (width, "down")}
    blocks = {name: SparseResBlock(channels, embedding.shape[1], *size) for name, size in sizes.items()}
    up = SparseResBlock(width, embedding.shape[1], channels, "up")
    for block in blocks.values():
        fill_parameters(block, seed)
    fill_parameters(up, int(re.findall(r"seed (\d+)", golden.sidecar["arrays"]["res_up"]["meaning"])[0]))
    norm = VoxelGroupNorm(32, golden.arrays["group_norm_in"].shape[1])
    norm.load_state_dict({"weight": array(golden, "group_norm_weight"), "bias": array(golden, "group_norm_bias")})

    found: dict[str, np.ndarray] = {name: np.full(value.shape, np.nan) for name, value in golden.arrays.items()}
    parents = array(golden, "down_coords")
    for number, rows in enumerate(items(golden)):
        grid, own = VoxelGrid(coords[rows]), feats[:, rows]
        of_parents = torch.nonzero(parents[:, 0] == number)[:, 0].numpy()
        coarse, parent = grid.coarser
        found["conv3"][rows] = conv(own, grid)[0]
        found["conv1"][rows] = pointwise(own)[0]
        found["conv1_square"][rows] = square(own)[0]
        found["down_coords"][of_parents, 0] = number
        found["down_coords"][of_parents, 1:] = coarse.coords
        found["down_feats"][of_parents] = downsampled(own, grid)[0]
        found["down_index"][rows] = parent + of_parents[0]
        found["up_feats"][rows] = 2 * downsampled(own, grid)[0, parent]
        found["group_norm"][rows] = norm(array(golden, "group_norm_in")[None, rows])[0]
        for name in ("res", "res_wide"):
            found[name][rows] = blocks[name](own, embedding[number, None], grid)[0]
        lowered = blocks["res_down"](own, embedding[number, None], grid)
        found["res_down"][of_parents] = lowered[0]
        found["res_up"][rows] = up(lowered, embedding[number, None], grid)[0]
        qkv = array(golden, "qkv")[rows].flatten(2)
        q, k, v = qkv[None].unbind(dim=2)
        heads = golden.arrays["qkv"].shape[2]
        found["attention_full"][rows] = attended(q, k, v, heads)[0].unflatten(1, (heads, -1))
        keys, values = array(golden, "context_kv")[number].flatten(2)[None].unbind(dim=2)
        found["attention_cross"][rows] = attended(q, keys, values, heads)[0].unflatten(1, (heads, -1))
        for name in (name for name in golden.arrays if re.fullmatch(r"attention_w\d+_s\d+", name)):
            window, shift = map(int, re.findall(r"\d+", name))
            inside = attended_in_windows(q, k, v, heads, grid, window, shift)
            found[name][rows] = inside[0].unflatten(1, (heads, -1))

    gamma = array(golden, "rms_gamma")
    head_norm = HeadNorm(*gamma.shape)
    head_norm.load_state_dict({"gamma": gamma})
    found["rms"] = head_norm(array(golden, "rms_in").flatten(1)[None])[0].unflatten(1, gamma.shape).numpy()
    for name in (name for name in golden.arrays if name.startswith("position_embedding_")):
        found[name] = golden.sampled(name, position_embedding(coords, golden.arrays[name].shape[1])).numpy()
    number = len(golden.arrays["subdivide_coords"]) // 8
    first = VoxelGrid(coords[:number])
    found["subdivide_coords"][:, 1:] = first.finer.coords
    found["subdivide_coords"][:, 0] = 0
    found["subdivide_feats"] = feats[0, :number].repeat_interleave(8, dim=0).numpy()

    given = {"coords", "feats", "res_emb", "qkv", "context_kv", "conv1_if_it_were_linear", "rms_in", "rms_gamma"}
    compared = [
        name for name in golden.arrays if name not in given and not re.match("group_norm_|subdivide_block", name)
    ]
    for name in compared:
        check(golden, name, found[name])
    check_subdivision(golden)


def check_subdivision(golden: Golden) -> None:
    count, out = len(golden.arrays["subdivide_block"]) // 8, golden.arrays["subdivide_block"].shape[1]
    inputs = array(golden, "group_norm_in")[None, :count]
    block = SubdivideBlock(inputs.shape[2], out)
    fill_parameters(block, golden.sidecar["seed"])
    noted: dict[str, torch.Tensor] = {}
    first = block.out_layers["0"]
    assert isinstance(first, SparseConv)
    grid = VoxelGrid(array(golden, "coords")[:count, 1:])
    noted["subdivide_block_conv0"] = first.on_children(block.act_layers(inputs), grid)[0]
    noted["subdivide_block_skip"] = block.skip_connection(inputs)[0].repeat_interleave(8, dim=0)
    noted["subdivide_block"] = block(inputs, grid)[0]
    for name, values in noted.items():
        check(golden, name, values)


@pytest.fixture
def conv() -> SparseConv:
    torch.manual_seed(0)
    return SparseConv(4, 5)


@pytest.mark.parametrize("share", [1.0, 0.5])
@torch.no_grad()
def test_a_convolution_is_that_of_the_grid_with_zeros_elsewhere(conv: SparseConv, share: float) -> None:
    is_there = torch.rand(6, 6, 6) < share
    grid = VoxelGrid(torch.nonzero(is_there)[torch.randperm(int(is_there.sum()))])
    dense = torch.randn(2, 4, 6, 6, 6) * is_there
    at = (slice(None), slice(None), *grid.coords.T)
    weight = conv.conv.weight.permute(0, 4, 1, 2, 3)
    expected = nn.functional.conv3d(dense, weight, conv.conv.bias, padding=1)[at].transpose(1, 2)
    torch.testing.assert_close(conv(dense[at].transpose(1, 2), grid), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_convolution_on_children_is_that_of_repeated_features(conv: SparseConv) -> None:
    grid = VoxelGrid(torch.nonzero(torch.rand(5, 5, 5) < 0.5))
    features = torch.randn(2, len(grid), 4)
    expected = conv(features.repeat_interleave(8, dim=1), grid.finer)
    torch.testing.assert_close(conv.on_children(features, grid), expected, atol=1e-5, rtol=0)


def test_one_child_alone_is_halved() -> None:
    grid = VoxelGrid(torch.tensor([[4, 5, 6]]))
    assert downsampled(torch.ones(1, 1, 3), grid).tolist() == [[[0.5] * 3]]
    assert grid.coarser[0].coords.tolist() == [[2, 2, 3]]


@torch.no_grad()
def test_windows_are_a_mask_of_full_attention() -> None:
    torch.manual_seed(0)
    grid = VoxelGrid(torch.unique(torch.randint(0, 12, (150, 3)), dim=0))
    q, k, v = torch.randn(3, 2, len(grid), 8).unbind()
    for window, shift in ((8, 0), (8, 4), (4, 2), (64, 0)):
        place = (grid.coords + shift) // window
        same = (place[:, None] == place[None]).all(dim=2)
        heads = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in (q, k, v)]
        masked = nn.functional.scaled_dot_product_attention(*heads, attn_mask=same).transpose(1, 2).flatten(2)
        inside = attended_in_windows(q, k, v, 2, grid, window, shift)
        torch.testing.assert_close(inside, masked, atol=1e-5, rtol=0)
