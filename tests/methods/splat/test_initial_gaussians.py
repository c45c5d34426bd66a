# SPDX-License-Identifier: Apache-2.0
"""Points become Gaussians of their colour and of the width of the gaps between them."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.models.splatfacto import SH2RGB

from img3d_methods.splat.initial_gaussians import initial_gaussians


def make(points: torch.Tensor, max_gaussians: int = 1000, sh_degree: int = 3) -> dict[str, torch.Tensor]:
    colors = torch.full((len(points), 3), 0.25)
    return initial_gaussians(points, colors, sh_degree, opacity=0.3, relative_scale=0.5, max_gaussians=max_gaussians)


def test_shapes_and_activations_are_splatfactos() -> None:
    params = make(torch.rand(20, 3))
    assert {name: tuple(value.shape) for name, value in params.items()} == {
        "means": (20, 3),
        "scales": (20, 3),
        "quats": (20, 4),
        "features_dc": (20, 3),
        "features_rest": (20, 15, 3),
        "opacities": (20, 1),
    }
    torch.testing.assert_close(params["opacities"].sigmoid(), torch.full((20, 1), 0.3))
    torch.testing.assert_close(SH2RGB(params["features_dc"]), torch.full((20, 3), 0.25))


def test_width_is_the_mean_distance_to_three_neighbours() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    expected = 0.5 * (1 + 1 + 2**0.5) / 3
    torch.testing.assert_close(make(corners)["scales"].exp(), torch.full((4, 3), expected))


@pytest.mark.parametrize("num", [1, 2, 3])
def test_fewer_points_than_neighbours(num: int) -> None:
    assert torch.isfinite(make(torch.arange(3.0 * num).reshape(num, 3))["scales"]).all()


def test_points_that_coincide_keep_a_width() -> None:
    points = torch.cat([torch.zeros(10, 3), torch.rand(10, 3)])
    assert torch.isfinite(make(points)["scales"]).all()


def test_the_budget_holds_and_the_kept_points_are_among_those_given() -> None:
    points = torch.rand(100, 3)
    kept = make(points, max_gaussians=30)["means"]
    assert kept.shape == (30, 3)
    assert bool((kept[:, None] == points[None]).all(dim=-1).any(dim=1).all())


def test_degree_zero_stores_colour_through_a_sigmoid() -> None:
    params = make(torch.rand(5, 3), sh_degree=0)
    torch.testing.assert_close(params["features_dc"].sigmoid(), torch.full((5, 3), 0.25))
    assert params["features_rest"].shape == (5, 0, 3)
