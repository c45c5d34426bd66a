# SPDX-License-Identifier: Apache-2.0
"""Coarse depth maps from points: the nearest surface in each cell, but for outliers."""

from __future__ import annotations

import torch

from img3d_kernels.depth_cells import CELLS, in_cells, nearest_depths

WIDTH, HEIGHT = 96, 48
K = torch.tensor([[96.0, 0, 48], [0, 96, 24], [0, 0, 1]])
CAMERA = (K, torch.eye(4), WIDTH, HEIGHT)


def plane(depth: float, spacing: float = 0.1) -> torch.Tensor:
    """Points of a plane across the view, `[P, 3]`."""
    reach = torch.arange(-depth, depth, spacing * depth / 10)
    return torch.cartesian_prod(reach, reach, torch.tensor([depth]))


def test_cells_of_a_photo_that_is_not_square_are_its_upper_rows() -> None:
    depths = nearest_depths(plane(10.0), *CAMERA)
    assert depths.shape == (CELLS, CELLS)
    torch.testing.assert_close(depths[: CELLS // 2], torch.full((CELLS // 2, CELLS), 10.0))
    assert not depths[CELLS // 2 + 1 :].any()


def test_the_nearest_of_two_surfaces_counts_but_two_points_are_none() -> None:
    near = torch.tensor([[0.0, 0, 2], [0.01, 0, 2], [0, 0.01, 2]])
    _, _, cells, _ = in_cells(near, *CAMERA)
    assert (nearest_depths(torch.cat([plane(10.0), near]), *CAMERA).view(-1)[cells] == 2).all()
    assert (nearest_depths(torch.cat([plane(10.0), near[:2]]), *CAMERA).view(-1)[cells] == 10).all()


def test_points_beside_and_behind_the_photo() -> None:
    places = torch.tensor([[0.0, 0, 1], [0.6, 0, 1], [1.2, 0, 1], [0, 0, -1], [torch.nan, 0, 1]])
    near, inside, cells, depths = in_cells(places, *CAMERA, margin=0.25)
    assert inside.tolist() == [True, False, False, False, False]
    assert near.tolist() == [True, True, False, False, False]
    assert cells.tolist() == [12 * CELLS + 24, 12 * CELLS + CELLS - 1, 0, 0, 0]
    assert depths[:4].tolist() == [1, 1, 1, -1]


def test_a_photo_without_points_knows_nothing() -> None:
    assert not nearest_depths(torch.empty(0, 3), *CAMERA).any()
