# SPDX-License-Identifier: Apache-2.0
"""img3d-small's columns: where their bins are in the world, and what the network starts from."""

from __future__ import annotations

import torch

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, plucker_rays
from img3d_generators.lgm import UNetConfig
from img3d_generators.small.columns import (
    CELLS,
    COLOURS,
    COLUMNS,
    DEPTHS,
    EMPTY_AT_FIRST,
    INPUT_SIZE,
    SPLIT,
    ColumnNetwork,
    bins_of,
    column_inputs,
    column_rays,
    in_cells,
    in_volume,
    points_in_columns,
)
from img3d_generators.small.objects import MAX_RADIUS


def small_network() -> ColumnNetwork:
    """A network with few channels."""
    channels, attention = (8, 16), (False, False)
    return ColumnNetwork(UNetConfig(66, 16, channels, attention, channels[::-1], attention, 1, 4))


def test_cells_and_the_volume_hold_the_same_values() -> None:
    image = torch.rand(1, 3, COLUMNS, COLUMNS)
    cells = in_cells(image)
    assert cells.shape == (1, CELLS**2, SPLIT**2, 3)
    torch.testing.assert_close(in_volume(cells[0]), image[0].permute(1, 2, 0), atol=0, rtol=0)


def test_rays_are_those_of_the_camera() -> None:
    pose = torch.eye(4)[None, :3]
    directions = plucker_rays(pose, LGM_FOV, COLUMNS)[0, 3:]
    expected = (directions / -directions[2:])[:2].permute(1, 2, 0)
    torch.testing.assert_close(in_volume(column_rays()), expected, atol=1e-6, rtol=0)


def test_every_bin_is_where_its_point_is() -> None:
    points = points_in_columns(column_rays())  # [N, K, D, 3]
    cell, column, bin_, inside = bins_of(points)
    assert inside.all()
    cells, columns, depths = torch.meshgrid(
        torch.arange(CELLS**2), torch.arange(SPLIT**2), torch.arange(DEPTHS), indexing="ij"
    )
    assert (cell == cells).all() and (column == columns).all() and (bin_ == depths * COLOURS // DEPTHS).all()


def test_points_outside_of_the_picture_or_of_the_depths_are_in_no_bin() -> None:
    points = torch.tensor([[2.0, 0, 0], [0, -2.0, 0], [0, 0, MAX_RADIUS + 0.01], [0, 0, -MAX_RADIUS - 0.01]])
    assert not bins_of(points)[3].any()
    assert bins_of(torch.zeros(1, 3))[3].all() and LGM_RADIUS > MAX_RADIUS


def test_an_untrained_network_is_empty_and_has_the_pictures_colours() -> None:
    picture = torch.rand(2, 4, INPUT_SIZE, INPUT_SIZE)
    picture[:, 3] = 1
    colours, shown = column_inputs(picture)
    assert shown.all()
    network = small_network()
    logits, rgb = network.columns(network.features(picture)[0], colours[0])
    assert logits.shape == (CELLS**2, SPLIT**2, DEPTHS) and (logits == EMPTY_AT_FIRST).all()
    torch.testing.assert_close(rgb, colours[0][:, :, None].expand_as(rgb), atol=1e-5, rtol=0)


def test_only_columns_that_the_object_covers_are_shown() -> None:
    picture = torch.ones(1, 4, INPUT_SIZE, INPUT_SIZE)
    picture[:, 3] = 0
    picture[:, 3, 40:80, 60:70] = 1
    shown = in_volume(column_inputs(picture)[1][0][..., None].float())[..., 0].bool()
    expected = torch.zeros(COLUMNS, COLUMNS, dtype=torch.bool)
    expected[20:40, 30:35] = True
    assert (shown == expected).all()
