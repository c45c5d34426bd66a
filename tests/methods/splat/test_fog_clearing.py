# SPDX-License-Identifier: Apache-2.0
"""What several photos see far in front of surfaces is fog; what they cannot know stays, unless hardly one sees it."""

from __future__ import annotations

import math

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


def test_where_three_photos_see_no_points_nothing_is_known_but_of_two_it_is_presumed() -> None:
    beside_the_wall = torch.tensor([[2.2, 0.0, -5.0], [2.2, 0.0, -6.5]])  # all three see them
    assert not FreeSpace.in_front_of(WALL, THREE, SHARE).holds(beside_the_wall).any()
    assert FreeSpace.in_front_of(WALL, THREE[:2], SHARE).holds(beside_the_wall).tolist() == [True, False]


def test_beside_photos_it_is_presumed_but_not_far_beside() -> None:
    up, far_up, right = torch.tensor([[0.0, 2.2, -5.0], [0, 5, -5], [2.2, 0, -5]])
    space = FreeSpace.in_front_of(3 * WALL / torch.tensor([1, 1, 3]), THREE, SHARE)
    assert space.holds(torch.stack([up, far_up, right])).tolist() == [True, False, True]
    assert space.holds(torch.stack([up, right]) * torch.tensor([1, 1, 1.3])).tolist() == [False, False]


def test_with_enough_photos_nothing_is_presumed() -> None:
    beside = torch.tensor([[2.2, 0.0, -5.0]])
    for num_photos, presumed in ((15, True), (24, False)):
        photos = cameras_at((0, 0, 0), *((30.0 + i, 0, 0) for i in range(num_photos - 1)))
        assert FreeSpace.in_front_of(WALL, photos, SHARE).holds(beside).all() == presumed


def test_places_that_are_not_numbers_are_not_fog() -> None:
    nowhere = torch.tensor([[math.nan, 0.0, -5.0], [0, 0, math.nan], [math.inf, 0, -5], [0, 0, -math.inf]])
    assert not FreeSpace.in_front_of(WALL, THREE, SHARE).holds(nowhere).any()


def test_a_photo_that_sees_a_surface_denies_what_is_presumed() -> None:
    photos, thing = cameras_at((0, 0, 0), (6, 0, 0)), torch.tensor([[4.0, 0.0, -5.0]])  # only the second sees it
    assert FreeSpace.in_front_of(WALL, photos, SHARE).holds(thing).all()
    around = thing + 0.1 * WALL / torch.tensor([1, 1, 100])
    assert not FreeSpace.in_front_of(torch.cat([WALL, around]), photos, SHARE).holds(thing).any()


def test_one_of_three_photos_that_see_it_is_not_enough() -> None:
    patch = WALL * torch.tensor([0.25, 0.25, 1]) + torch.tensor([2.0, 0, 0])
    photos, fog = cameras_at((0, 0, 0), (3, 0, 0), (3.1, 0, 0)), torch.tensor([[1.0, 0.0, -5.0]])
    assert not FreeSpace.in_front_of(patch, photos, SHARE).holds(fog).any()
    assert FreeSpace.in_front_of(patch, photos[:2], SHARE).holds(fog).all(), "one of two is"
    assert FreeSpace.in_front_of(patch, photos[:1], SHARE).holds(fog).all(), "the only one is"


def test_two_stray_points_do_not_hide_fog_but_a_surface_keeps_what_is_behind_it() -> None:
    fog = torch.tensor([[0.0, 0.0, -5.0]])
    stray = torch.tensor([[0.0, 0.0, -4.0], [0.01, 0.0, -4.0]])
    assert FreeSpace.in_front_of(torch.cat([WALL, stray]), THREE, SHARE).holds(fog).all()
    branch = torch.cartesian_prod(torch.linspace(-0.3, 0.3, 9), torch.linspace(-0.3, 0.3, 9), torch.tensor([-4.0]))
    assert not FreeSpace.in_front_of(torch.cat([WALL, branch]), THREE, SHARE).holds(fog).any()


def test_nothing_is_between_a_photo_and_the_sky_that_it_shows() -> None:
    directions = torch.cartesian_prod(torch.linspace(-1, 1, 81), torch.linspace(-1, 1, 81), torch.tensor([-1.0]))
    high = directions[:, 1] > 0.1
    means = torch.tensor([[0.0, 2.0, -10.0], [0, -2, -10], [0, 200, -1000]])
    for num_showing, expected in ((2, [True, False, False]), (1, [False, False, False])):
        shown = high & (torch.arange(3) < num_showing)[:, None]
        sky = SkyPoints(1000 * directions, torch.zeros(len(directions), 3), shown)
        held = FreeSpace.in_front_of(torch.empty(0, 3), THREE, SHARE, sky).holds(means)
        assert held.tolist() == expected, "two of three photos show the sky above, one of three"


def test_without_points_nothing_is_known() -> None:
    assert not FreeSpace.in_front_of(torch.empty(0, 3), THREE, SHARE).holds(WALL / 2).any()


def test_fog_is_removed_in_training_until_late_in_the_run() -> None:
    model = small_model(num_points=50, sh_degree=1, max_gaussians=50).train()
    model.optimizers = {name: torch.optim.Adam([param]) for name, param in model.gauss_params.items()}
    for name, param in model.gauss_params.items():
        param.grad = torch.zeros_like(param)
        model.optimizers[name].step()
    whole_view = 3 * WALL / torch.tensor([1, 1, 3])  # or Gaussians were added beside the wall
    model.seed_points = (whole_view, torch.zeros_like(WALL))
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
