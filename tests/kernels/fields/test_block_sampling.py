# SPDX-License-Identifier: Apache-2.0
"""Samples that blocks of a picture's pixels share, and pictures rendered with them."""

from __future__ import annotations

from dataclasses import replace

import kernel_scenes
import pytest
import torch
from small_fields import BOX, SPACES, small_field

from img3d_kernels.fields.block_sampling import block_samples, block_samples_torch, chosen_rays
from img3d_kernels.fields.guided_sampling import Guide, guided_samples
from img3d_kernels.fields.rays import BlockSamples, Marching, Rays, Samples
from img3d_kernels.fields.volume_rendering import render, render_torch

pytestmark = kernel_scenes.needs_compiled

WIDTH, HEIGHT, SIDE = 37, 22, 4
"""Neither a multiple of a block's side nor of a tile's sides."""
BLOCKS = 10 * 6


def picture_rays(dtype: torch.dtype = torch.float32) -> Rays:
    """Of a camera that looks at the origin along x."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    directions = torch.stack([torch.ones_like(x), 0.04 * (x - WIDTH / 2), 0.04 * (HEIGHT / 2 - y)], dim=-1)
    directions = torch.nn.functional.normalize(directions.reshape(-1, 3), dim=1).to(dtype)
    count = len(directions)
    features = 0.5 * torch.randn(count, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    near, far = (torch.full((count,), end, dtype=dtype) for end in (0.05, 50.0))
    return Rays(
        torch.tensor([-1.5, 0.0, 0.0], dtype=dtype).expand(count, 3).contiguous(), directions, near, far, features
    )


def some_guide(space: str, dtype: torch.dtype = torch.float32) -> Guide:
    weights = torch.rand(SPACES[space].grid_size ** 3, generator=torch.Generator().manual_seed(0)) ** 8
    return Guide(weights.to(dtype), 64, 40)


@pytest.mark.parametrize("space", SPACES)
def test_block_samples_are_those_of_the_twin(space: str) -> None:
    options = (WIDTH, SIDE, some_guide(space), 0.05)
    actual = block_samples(small_field(SPACES[space]), picture_rays(), *options).samples
    field, rays = small_field(SPACES[space], dtype=torch.float64), picture_rays(torch.float64)
    twin = block_samples_torch(field, rays, WIDTH, SIDE, some_guide(space, torch.float64), 0.05).samples
    assert len(actual.counts) == BLOCKS
    same = actual.counts == twin.counts  # where a weight or a cell is at a border, rounding decides
    assert same.float().mean() > 0.8
    kept = torch.arange(40) < actual.counts[same, None]
    assert 0.3 < kept.float().mean() < 0.95
    close = (actual.middles - twin.middles).abs() < 2e-3 * twin.middles
    assert close[same][kept].float().mean() > 0.95


def test_samples_behind_a_surface_are_left_out() -> None:
    """A box is opaque: only what is near where the rays enter it is left."""
    field, rays = replace(small_field(BOX), density_bias=8.0), picture_rays()
    samples = block_samples(field, rays, WIDTH, SIDE, Guide(torch.ones(BOX.grid_size**3), 128, 64), 0.01).samples
    hit = samples.counts > 0
    assert hit.any() and samples.counts.max() < 10
    used = torch.arange(64) < samples.counts[hit, None]
    first = samples.middles[hit][:, :1]
    assert ((samples.middles[hit] - first)[used] < 0.25).all()


def test_without_a_least_weight_blocks_have_all_samples_of_their_chosen_rays() -> None:
    space = "unbounded"
    field, rays, guide = small_field(SPACES[space]), picture_rays(), some_guide(space)
    samples, chosen = block_samples(field, rays, WIDTH, SIDE, guide, 0.0).samples, chosen_rays(len(rays), WIDTH, SIDE)
    expected = guided_samples(field, rays, guide)
    assert torch.equal(samples.counts, expected.counts[chosen.flatten()])
    assert torch.equal(samples.middles, expected.middles[chosen.flatten()])


def test_three_blocks_in_a_row_or_column_look_at_three_columns_or_rows_of_pixels() -> None:
    chosen = chosen_rays(40 * 40, 40, SIDE)
    rows, columns = chosen // 40, chosen % 40
    for places in (columns % SIDE, (rows % SIDE).T):
        for first in range(7):
            assert len(set(places[first : first + 3, 5].tolist())) == 3


@pytest.mark.parametrize("space", SPACES)
def test_a_picture_is_what_its_rays_are(space: str) -> None:
    """Whatever the order in which they are rendered."""
    field, rays = small_field(SPACES[space]), picture_rays()
    for along in (Marching(0.05), block_samples(field, rays, WIDTH, SIDE, some_guide(space), 0.05).of_rays(len(rays))):
        row_by_row, in_tiles = render(field, rays, along), render(field, rays, along, width=WIDTH)
        assert torch.equal(row_by_row.rgb, in_tiles.rgb) and torch.equal(row_by_row.depth, in_tiles.depth)
        assert row_by_row.accumulation.mean() > 0.1


def test_rays_have_the_samples_of_their_block() -> None:
    space = "unbounded"
    field, rays = small_field(SPACES[space]), picture_rays()
    blocks = block_samples(field, rays, WIDTH, SIDE, some_guide(space), 0.05)
    actual, expected = render(field, rays, blocks), render(field, rays, blocks.of_rays(len(rays)))
    assert torch.equal(actual.rgb, expected.rgb)
    twin = render_torch(field, rays, blocks)
    torch.testing.assert_close(actual.rgb, twin.rgb, rtol=0, atol=1e-4)


def test_blocks_of_some_rows() -> None:
    counts = torch.arange(BLOCKS, dtype=torch.int32)
    samples = Samples(counts, counts[:, None].float(), counts[:, None].float())
    blocks = BlockSamples(samples, WIDTH, SIDE)
    of_all = blocks.of_rays(WIDTH * HEIGHT).counts.view(HEIGHT, WIDTH)
    assert of_all[0, 0] == of_all[3, 3] == 0 and of_all[4, 0] == 10 and of_all[-1, -1] == BLOCKS - 1
    part = blocks.in_rows(8, HEIGHT).of_rays(WIDTH * (HEIGHT - 8)).counts
    assert torch.equal(part.view(-1, WIDTH), of_all[8:])
