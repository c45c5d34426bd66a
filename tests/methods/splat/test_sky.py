# SPDX-License-Identifier: Apache-2.0
"""Sky is what photos from different places show in the same colour, in the same direction."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_methods.splat.sky import DISTANCE, SPACING, in_sky, sky_points

SIZE = 120
Shade = Callable[[Tensor, Tensor], Tensor]
"""Colours `[..., 3]` in [0, 1] of rays: from origins and unit directions."""


@pytest.fixture
def cameras() -> Cameras:
    """Eight cameras on a circle, of which neighbours look the same way; the horizon is in the middle."""
    poses = []
    for i in range(8):
        angle = math.pi * (i // 2) / 8
        backward = -torch.tensor([math.cos(angle), math.sin(angle), 0.0])
        up = torch.tensor([0.0, 0.0, 1.0])
        position = torch.tensor([math.cos(i), math.sin(i), 0.0])
        poses.append(torch.stack([torch.linalg.cross(up, backward), up, backward, position], dim=1))
    return Cameras(torch.stack(poses), fx=100.0, fy=100.0, cx=SIZE / 2, cy=SIZE / 2, width=SIZE, height=SIZE)


def photos(cameras: Cameras, shade: Shade) -> list[Tensor]:
    """What the cameras see."""
    rays = cameras.generate_rays(camera_indices=torch.arange(len(cameras))[:, None])
    origins, directions = (a.reshape(SIZE, SIZE, len(cameras), 3) for a in (rays.origins, rays.directions))
    return list((255 * shade(origins, directions)).round().byte().permute(2, 0, 1, 3).contiguous())


def ground_points() -> Tensor:
    """Seed points on a ground one below the cameras."""
    flat = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)) * 6
    return torch.cat([flat, torch.full((4000, 1), -1.0)], dim=1)


def sky_color(directions: Tensor) -> Tensor:
    blue = directions[..., 2:].clamp(min=0)
    return torch.cat([0.8 - 0.6 * blue, 0.85 - 0.4 * blue, 0.9 - 0.1 * blue], dim=-1)


def under_the_sky(origins: Tensor, directions: Tensor) -> Tensor:
    return torch.where(directions[..., 2:] > 0, sky_color(directions), torch.tensor([0.3, 0.4, 0.2]))


def in_a_room(origins: Tensor, directions: Tensor) -> Tensor:
    """Smooth walls three from the middle, whose colour turns with the place."""
    reach = 3 / directions[..., :2].norm(dim=-1, keepdim=True).clamp(min=1e-3)
    place = origins + reach * directions
    return torch.stack([0.5 + 0.4 * torch.sin(2 * place[..., i]) for i in (0, 1, 0)], dim=-1)


def test_directions_of_the_sky_get_far_points_of_its_colour(cameras: Cameras) -> None:
    sky = sky_points(photos(cameras, under_the_sky), cameras, ground_points())
    assert sky is not None
    center = cameras.camera_to_worlds[:, :, 3].mean(dim=0)
    offsets = sky.points - center
    distances = offsets.norm(dim=1)
    assert distances.min() > DISTANCE and distances.max() - distances.min() < 1e-4 * distances.max()
    scene = torch.cat([ground_points(), sky.points])
    assert torch.equal(in_sky(scene, cameras), torch.arange(len(scene)) >= len(ground_points()))
    directions = offsets / distances[:, None]
    assert (sky.colors - sky_color(directions)).abs().max() < 0.03
    # As many as fit into what the cameras see above the horizon: 31 degrees high, 135 and 62 degrees wide.
    seen = math.sin(math.radians(31)) * math.radians(135 + 62)
    assert 0.5 < len(sky.points) * SPACING**2 / seen < 1.1


def test_smooth_walls_are_no_sky(cameras: Cameras) -> None:
    assert sky_points(photos(cameras, in_a_room), cameras, ground_points()) is None


def test_what_has_seed_points_is_no_sky(cameras: Cameras) -> None:
    towards = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1))
    towards = 5 * towards / towards.norm(dim=1, keepdim=True)
    assert sky_points(photos(cameras, under_the_sky), cameras, towards) is None


def test_cut_out_objects_have_no_sky(cameras: Cameras) -> None:
    opaque = [torch.cat([p, torch.full_like(p[..., :1], 255)], dim=-1) for p in photos(cameras, under_the_sky)]
    assert sky_points(opaque, cameras, ground_points()) is None


def test_an_object_that_is_far_from_all_cameras_is_no_sky(cameras: Cameras) -> None:
    far = torch.randn(100, 3, generator=torch.Generator().manual_seed(2)) + 1000 * torch.tensor([1.0, 0.0, 0.0])
    assert not in_sky(far, cameras).any()
