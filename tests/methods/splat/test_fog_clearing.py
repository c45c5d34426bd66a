# SPDX-License-Identifier: Apache-2.0
"""What several photos see far in front of surfaces is fog; what they cannot know stays."""

from __future__ import annotations

import torch
from gaussian_scenes import small_model
from nerfstudio.cameras.cameras import Cameras

from img3d_methods.splat.free_space import FreeSpace
from img3d_methods.splat.sky import SkyPoints

SHARE = 0.6
WALL = torch.cartesian_prod(torch.linspace(-2, 2, 81), torch.linspace(-2, 2, 81), torch.tensor([-10.0]))
"""At z = -10, which the cameras look at."""


def cameras_at(*positions: tuple[float, float, float]) -> Cameras:
    """Cameras that look along -z, 100 x 80 pixels, whose pictures are 10 x 8 wide at a distance of 10."""
    poses = torch.eye(4)[:3].repeat(len(positions), 1, 1)
    poses[:, :, 3] = torch.tensor(positions)
    return Cameras(poses, 100.0, 100.0, 50.0, 40.0, 100, 80)


THREE = cameras_at((0, 0, 0), (0.2, 0, 0), (0, 0.2, 0))


def test_far_in_front_of_a_wall_is_empty_near_it_is_not() -> None:
    means = torch.tensor([[0.0, 0, -1], [0, 0, -5.9], [0, 0, -6.1], [0, 0, -10], [0, 0, -12], [0, 0, 3]])
    held = FreeSpace.in_front_of(WALL, THREE, SHARE).holds(means)
    assert held.tolist() == [True, True, False, False, False, False]


def test_where_photos_see_no_points_nothing_is_known() -> None:
    beside_the_wall = torch.tensor([[2.2, 0.0, -5.0]])  # all three see it, at 4.4 of the wall's plane
    assert not FreeSpace.in_front_of(WALL, THREE, SHARE).holds(beside_the_wall).any()


def test_points_that_are_out_of_a_photo_tell_it_nothing() -> None:
    far_wall = WALL * torch.tensor([3.0, 3.0, 1.0])
    up, right = torch.tensor([[0.0, 2.2, -5.0]]), torch.tensor([[2.2, 0.0, -5.0]])
    held = FreeSpace.in_front_of(far_wall, cameras_at((0, 0, 0), (0.01, 0, 0)), SHARE)
    assert held.holds(right).all() and not held.holds(up).any(), "pictures are 10 wide but 8 high"


def test_one_photo_of_several_is_not_enough() -> None:
    means = torch.tensor([[0.0, 0.0, -1.0]])
    aside = cameras_at((0, 0, 0), (30, 0, 0))
    assert not FreeSpace.in_front_of(WALL, aside, SHARE).holds(means).any()
    assert FreeSpace.in_front_of(WALL, cameras_at((0, 0, 0)), SHARE).holds(means).all(), "the only one is"


def test_two_stray_points_do_not_hide_fog_but_a_surface_keeps_what_is_behind_it() -> None:
    fog = torch.tensor([[0.0, 0.0, -5.0]])
    stray = torch.tensor([[0.0, 0.0, -4.0], [0.01, 0.0, -4.0]])
    assert FreeSpace.in_front_of(torch.cat([WALL, stray]), THREE, SHARE).holds(fog).all()
    branch = torch.cartesian_prod(torch.linspace(-0.3, 0.3, 9), torch.linspace(-0.3, 0.3, 9), torch.tensor([-4.0]))
    assert not FreeSpace.in_front_of(torch.cat([WALL, branch]), THREE, SHARE).holds(fog).any()


def test_nothing_is_between_a_photo_and_the_sky_that_it_shows() -> None:
    directions = torch.cartesian_prod(torch.linspace(-1, 1, 81), torch.linspace(-1, 1, 81), torch.tensor([-1.0]))
    high = directions[:, 1] > 0.1
    shown = high.expand(3, -1).clone()
    shown[2] = False
    sky = SkyPoints(1000 * directions, torch.zeros(len(directions), 3), shown)
    means = torch.tensor([[0.0, 2.0, -10.0], [0, -2, -10], [0, 200, -1000]])
    for photos, expected in ((THREE, [True, False, False]), (THREE[1:], [False, False, False])):
        seen = SkyPoints(sky.points, sky.colors, shown[-len(photos) :])
        held = FreeSpace.in_front_of(torch.empty(0, 3), photos, SHARE, seen).holds(means)
        assert held.tolist() == expected, "two of three photos show the sky above, one of two"


def test_without_points_nothing_is_known() -> None:
    assert not FreeSpace.in_front_of(torch.empty(0, 3), THREE, SHARE).holds(WALL / 2).any()


def test_fog_is_removed_in_training_until_late_in_the_run() -> None:
    model = small_model(num_points=50, sh_degree=1, max_gaussians=50).train()
    model.optimizers = {name: torch.optim.Adam([param]) for name, param in model.gauss_params.items()}
    for name, param in model.gauss_params.items():
        param.grad = torch.zeros_like(param)
        model.optimizers[name].step()
    model.seed_points = (WALL, torch.zeros_like(WALL))
    model.know_photos([torch.zeros(80, 100, 3, dtype=torch.uint8)] * 3, THREE)
    model.means.data[:] = torch.tensor([0.0, 0.0, -10.0])
    model.means.data[0] = torch.tensor([0.0, 0.0, -5.5])
    model._prepare_schedule(max_steps=2000)
    assert model.floater_limits is not None
    for step in (50, 1500):
        model._keep_clear(model.floater_limits, step)
        assert model.num_points == 50
    model._keep_clear(model.floater_limits, 100)
    assert model.num_points == 49
