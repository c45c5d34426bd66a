# SPDX-License-Identifier: Apache-2.0
"""Marching on CUDA through nerfacc: the samples are those of the other backends.

nerfacc has no kernels for a CPU. There, a few lines that do what its documentation says stand in for them, so that what
goes in and what comes out is checked.
"""

from __future__ import annotations

from dataclasses import fields, replace

import nerfacc
import pytest
import torch
from small_fields import BOX, small_field, some_rays
from torch import Tensor

from img3d_kernels.fields import nerfacc_marching, volume_rendering
from img3d_kernels.fields.radiance_field import FieldSpace
from img3d_kernels.fields.rays import Marching, Rays
from img3d_kernels.fields.volume_rendering import march, march_torch

STEPS = Marching(0.05, 20)


def half_empty_box() -> FieldSpace:
    words = torch.randint(-(2**31), 2**31, (16**3 // 32,), generator=torch.Generator().manual_seed(3)).int()
    return replace(BOX, occupied=words)


def traversed(
    rays_o: Tensor,
    rays_d: Tensor,
    binaries: Tensor,
    aabbs: Tensor,
    near_planes: Tensor,
    far_planes: Tensor,
    step_size: float,
) -> tuple[None, nerfacc.RaySamples]:
    """`nerfacc.traverse_grids`: the middles, in occupied cells, of steps from each ray's near plane on."""
    low, high = aabbs[0].split(3)
    size = torch.tensor(binaries.shape[1:])
    values, counts = [], []
    for origin, direction, near, far in zip(rays_o, rays_d, near_planes.tolist(), far_planes.tolist(), strict=True):
        kept, middle = [], near + 0.5 * step_size
        while middle < far:
            cell = ((origin + middle * direction - low) / (high - low) * size).floor().long()
            if ((cell >= 0) & (cell < size)).all() and binaries[0, cell[0], cell[1], cell[2]]:
                kept.append(middle)
            middle += step_size
        values += kept
        counts.append(len(kept))
    each = torch.tensor(counts)
    packed = torch.stack([each.cumsum(0) - each, each], dim=1)
    return None, nerfacc.RaySamples(torch.tensor(values), packed, torch.arange(len(each)).repeat_interleave(each))


def test_the_samples_are_those_of_the_torch_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    field, rays, offsets = small_field(half_empty_box()), some_rays(60), torch.rand(60)
    rays = Rays(**{part.name: getattr(rays, part.name).detach() for part in fields(rays)})
    expected = march_torch(field, rays, STEPS, offsets)
    assert expected.counts.max() == STEPS.max_samples and (expected.counts < STEPS.max_samples).any()
    monkeypatch.setattr(nerfacc, "traverse_grids", traversed)
    monkeypatch.setattr(volume_rendering, "can_march", lambda space, rays: True)
    actual = march_torch(field, rays, STEPS, offsets)
    # At a cell's border, rounding decides whether a step is in it.
    same = actual.counts == expected.counts
    assert same.float().mean() > 0.95
    torch.testing.assert_close(actual.middles[same], expected.middles[same], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual.lengths[same], expected.lengths[same])


def test_without_cuda_nerfacc_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nerfacc_marching, "_has_kernels", lambda: pytest.fail("nerfacc would be compiled"))
    assert not nerfacc_marching.can_march(half_empty_box(), some_rays(2))


@pytest.mark.cuda
def test_on_cuda_nerfacc_places_the_samples_of_the_cpu() -> None:
    field, rays, offsets = small_field(half_empty_box()), some_rays(300), torch.rand(300)
    expected = march(field, rays, STEPS, offsets)
    space = replace(field.space, occupied=field.space.occupied.cuda())
    on_cuda = Rays(**{part.name: getattr(rays, part.name).detach().cuda() for part in fields(rays)})
    assert nerfacc_marching.can_march(space, on_cuda)
    moved = replace(field, table=field.table.cuda(), networks=field.networks.cuda(), space=space)
    actual = march(moved, on_cuda, STEPS, offsets.cuda())
    same = actual.counts.cpu() == expected.counts
    assert same.float().mean() > 0.95
    torch.testing.assert_close(actual.middles.cpu()[same], expected.middles[same], rtol=1e-4, atol=1e-4)
