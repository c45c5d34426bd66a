# SPDX-License-Identifier: Apache-2.0
"""The radiance field: density and colour at any place, however far away, that can be learned."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.field_components.spatial_distortions import SceneContraction

from img3d_methods.field.hash_grid_field import DensityField, HashGrid, RadianceField, contracted


def grid() -> HashGrid:
    torch.manual_seed(0)
    made = HashGrid(num_levels=4, base_resolution=4, finest_resolution=64, log2_table_size=12)
    made.table.data.uniform_(-1, 1)
    return made


def directions(count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3), dim=1)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1e6), st.integers(0, 1000))
def test_all_of_space_has_a_density_and_a_colour(reach: float, seed: int) -> None:
    torch.manual_seed(seed)
    field = RadianceField(grid(), 16)
    density, rgb = field(reach * torch.randn(5, 7, 3), directions(5))
    assert density.shape == (5, 7, 1) and rgb.shape == (5, 7, 3)
    assert density.isfinite().all() and (density >= 0).all()
    assert (rgb >= 0).all() and (rgb <= 1).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e6), st.integers(0, 1000))
def test_space_is_contracted_as_nerfacto_does(reach: float, seed: int) -> None:
    positions = reach * torch.randn(50, 3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(contracted(positions), SceneContraction(order=float("inf"))(positions))
    assert (contracted(torch.zeros(1, 3)) == 0).all()


def test_density_does_not_depend_on_where_it_is_seen_from_and_colour_does() -> None:
    field = RadianceField(grid(), 16)
    positions = torch.randn(6, 3, 3)
    density, rgb = field(positions, directions(6))
    other_density, other_rgb = field(positions, directions(6))
    assert torch.equal(density, other_density)
    assert not torch.allclose(rgb, other_rgb, atol=1e-3)


def test_two_fields_with_the_same_numbers_are_the_same() -> None:
    first, second = RadianceField(grid(), 16), RadianceField(grid(), 16)
    second.load_state_dict(first.state_dict())
    positions, seen_from = torch.randn(2, 3, 3), directions(2)
    assert all(
        torch.equal(a, b) for a, b in zip(first(positions, seen_from), second(positions, seen_from), strict=True)
    )


def test_a_density_can_be_learned() -> None:
    """That of a ball."""
    torch.manual_seed(0)
    field = DensityField(grid(), 16)
    optimizer = torch.optim.Adam(field.parameters(), lr=0.02)
    for _ in range(150):
        positions = torch.rand(2048, 3) * 2 - 1
        inside = (positions.norm(dim=1, keepdim=True) < 0.6).float()
        loss = ((1 - torch.exp(-field(positions))) - inside).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    positions = torch.rand(4096, 3) * 2 - 1
    distance = positions.norm(dim=1)
    sure = (distance - 0.6).abs() > 0.1
    right = (field(positions)[:, 0] > 0.7) == (distance < 0.6)
    assert right[sure].float().mean() > 0.97
