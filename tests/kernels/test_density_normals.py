# SPDX-License-Identifier: Apache-2.0
"""Normals of densities."""

from __future__ import annotations

import torch
from torch import Tensor

from img3d_kernels.density_normals import density_normals


def log_density_of_ball(positions: Tensor) -> Tensor:
    return -positions.square().sum(dim=-1)


def test_normals_point_to_where_the_density_falls() -> None:
    points = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(density_normals(log_density_of_ball, points, 0.01), points, atol=1e-3, rtol=0)


def test_constant_densities_have_no_normals() -> None:
    normals = density_normals(lambda around: torch.full((len(around),), 0.1), torch.ones(3, 3), 0.01)
    assert (normals == 0).all()
