# SPDX-License-Identifier: Apache-2.0
"""Photos' own exposure and white balance: found from the seed points, and kept apart from the scene's colours."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from img3d_methods.splat.appearance import (
    PhotoAppearance,
    differently_exposed,
    log_gains_of_photos,
)

NUM_PHOTOS, SIZE = 6, 96


def wall_seen_by_cameras(gains: torch.Tensor) -> tuple[list[torch.Tensor], Cameras, torch.Tensor, torch.Tensor]:
    """Photos of a wall of random colours, each photo's multiplied by its gains `[N, 3]`; and points on the wall."""
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(2000, 2, generator=generator) * 2 - 1
    points = torch.cat([place, torch.full((2000, 1), -2.0)], dim=1)
    wall = 60 + 100 * torch.rand(SIZE, SIZE, 3, generator=generator)
    column = (SIZE * (place[:, 0] + 2) / 4).long()
    row = (SIZE * (2 - place[:, 1]) / 4).long()
    colors = wall[row, column]
    poses = torch.eye(4)[:3].repeat(NUM_PHOTOS, 1, 1)
    cameras = Cameras(poses, SIZE / 2, SIZE / 2, SIZE / 2, SIZE / 2, SIZE, SIZE, camera_type=CameraType.PERSPECTIVE)
    images = [(wall * gain).round().clamp(0, 255).to(torch.uint8) for gain in gains]
    return images, cameras, points, colors


def test_gains_of_photos_are_found_by_the_seed_points_in_view() -> None:
    gains = torch.exp(0.2 * torch.randn(NUM_PHOTOS, 3, generator=torch.Generator().manual_seed(1)))
    found = log_gains_of_photos(*wall_seen_by_cameras(gains))
    expected = gains.log() - gains.log().mean(dim=0)
    assert (found - expected).abs().max() < 0.01  # of a median of bytes around 100


def test_points_hidden_behind_others_do_not_count() -> None:
    images, cameras, points, colors = wall_seen_by_cameras(torch.ones(NUM_PHOTOS, 3))
    hidden = points * 3
    found = log_gains_of_photos(images, cameras, torch.cat([points, hidden]), torch.cat([colors, 0 * colors + 30]))
    assert found.abs().max() < 1e-5


def test_a_photo_without_points_has_no_gain_of_its_own() -> None:
    images, cameras, points, colors = wall_seen_by_cameras(torch.ones(NUM_PHOTOS, 3))
    assert log_gains_of_photos(images, cameras, points[:3], colors[:3]).abs().max() == 0


def test_what_masks_exclude_tells_nothing_of_the_exposure() -> None:
    images, cameras, points, colors = wall_seen_by_cameras(torch.ones(NUM_PHOTOS, 3))
    masks: list[torch.Tensor | None] = [None] * NUM_PHOTOS
    for i, rows in ((0, slice(SIZE // 4, SIZE)), (1, slice(0, SIZE))):
        images[i][rows] = torch.tensor([30, 200, 30], dtype=torch.uint8)
        masks[i] = torch.ones(SIZE, SIZE, 1, dtype=torch.bool)
        masks[i][rows] = False
    assert log_gains_of_photos(images, cameras, points, colors).abs().max() > 0.3
    assert log_gains_of_photos(images, cameras, points, colors, masks).abs().max() < 1e-5


@pytest.mark.parametrize(("spread", "expected"), [(0.02, False), (0.3, True)])
def test_only_photos_that_differ_need_maps(spread: float, expected: bool) -> None:
    assert differently_exposed(spread * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))) is expected


def test_one_photo_differs_from_nothing() -> None:
    assert not differently_exposed(torch.ones(1, 3))


def test_maps_start_from_the_gains_and_are_the_identity_on_average() -> None:
    appearance = PhotoAppearance(2)
    rgb = torch.rand(4, 5, 3)
    assert torch.equal(appearance(rgb, 0), rgb), "not in use yet"
    appearance.start_from(torch.tensor([[0.1, 0.1, 0.1], [-0.1, -0.1, -0.1]]))
    brighter, darker = appearance(rgb, 0), appearance(rgb, 1)
    assert torch.allclose(brighter / rgb - darker / rgb, torch.tensor(2 * 0.10017), atol=1e-4)  # 2 sinh 0.1
    assert torch.allclose((brighter + darker) / 2, rgb, atol=1e-6)


def test_they_come_back_from_a_checkpoint() -> None:
    appearance = PhotoAppearance(2)
    appearance.start_from(torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.0, 0.1]]))
    again = PhotoAppearance(2)
    assert not again.is_active
    again.load_state_dict(appearance.state_dict())
    assert again.is_active
    rgb = torch.rand(4, 5, 3)
    assert torch.equal(again(rgb, 1), appearance(rgb, 1))
