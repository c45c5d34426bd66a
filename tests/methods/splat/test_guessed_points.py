# SPDX-License-Identifier: Apache-2.0
"""Where few photos have no seed points, depth is guessed: never where another photo sees through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from gaussian_scenes import small_model
from nerfstudio.cameras.cameras import Cameras

from img3d_methods.splat.guessed_points import guessed_points
from img3d_methods.splat.sky import SkyPoints

WIDTH, HEIGHT = 96, 72
RED, BLUE = (200, 30, 30), (30, 30, 200)


def cameras_at(*positions: tuple[float, float, float]) -> Cameras:
    """Cameras that look along -z, whose pictures are 10 x 7.5 wide at a distance of 10."""
    poses = torch.eye(4)[:3].repeat(len(positions), 1, 1)
    poses[:, :, 3] = torch.tensor(positions)
    return Cameras(poses, 96.0, 96.0, 48.0, 36.0, WIDTH, HEIGHT)


def wall(left: float, right: float, depth: float) -> torch.Tensor:
    """Points `[P, 3]` of a wall between two x, at z = -depth."""
    x, y = torch.arange(float(left), right, 0.05), torch.arange(-5.0, 5, 0.05)
    return torch.cartesian_prod(x, y, torch.tensor([-float(depth)]))


def pictures(count: int, left: Sequence[int] = RED, right: Sequence[int] = RED) -> list[torch.Tensor]:
    """Photos in two colours, `[H, W, 3]`."""
    picture = torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8)
    picture[:, : WIDTH // 2], picture[:, WIDTH // 2 :] = torch.tensor(left), torch.tensor(right)
    return [picture] * count


TWO = cameras_at((0, 0, 0), (0, 0.1, 0))
LEFT_HALF = wall(-6, 0, 10)


def guessed(*args: object, masks: list[torch.Tensor | None] | None = None) -> tuple[np.ndarray, np.ndarray]:
    found = guessed_points(*args, masks, None)  # type: ignore[arg-type]
    assert found is not None
    return found[0].numpy(), found[1].numpy()


def test_what_has_no_points_gets_one_a_cell_in_its_colour() -> None:
    points, colors = guessed(pictures(2, RED, BLUE), TWO, LEFT_HALF)
    assert 0.45 < len(points) / (2 * 48 * 36) <= 0.5
    np.testing.assert_allclose(colors, np.broadcast_to(np.array(BLUE) / 255, colors.shape), atol=1e-6)
    to_the_right = points[:, 0] / -points[:, 2]
    assert to_the_right.min() > 0 and to_the_right.max() < 0.5


def test_a_small_gap_in_a_wall_is_closed() -> None:
    points, _ = guessed(pictures(2), TWO, torch.cat([wall(-6, -1, 10), wall(1, 6, 10)]))
    assert (np.abs(points[:, 2] + 10) < 1).mean() > 0.9


def test_what_has_another_colour_in_a_gap_is_behind_it() -> None:
    photos = pictures(2)
    photos[0][:, WIDTH * 2 // 5 : WIDTH * 3 // 5] = torch.tensor(BLUE, dtype=torch.uint8)
    points, colors = guessed(photos, TWO, torch.cat([wall(-6, -1.6, 10), wall(1.6, 6, 10)]))
    blue = points[colors[:, 2] > 0.6]
    assert len(blue) > 500 and (blue[:, 2] < -11).all()


def test_background_lies_behind_what_is_known() -> None:
    points, _ = guessed(pictures(2, RED, BLUE), TWO, LEFT_HALF)
    assert (points[:, 2] < -9).all() and (points[:, 2] > -15.1).all()


def test_no_guess_is_where_another_photo_sees_a_wall_behind() -> None:
    photos = cameras_at((0, 0, 0), (8, 0, 0), (8, 0.1, 0))
    far = wall(4, 14, 20)  # which the first photo shows at its right border only
    points, _ = guessed(pictures(3), photos, torch.cat([LEFT_HALF, far]))
    depths, right = -points[:, 2], points[:, 0] - 8
    known = (points[:, 0] > 4.5) & (np.abs(right) < 0.45 * depths) & (np.abs(points[:, 1]) < 0.3 * depths)
    assert len(points) > 100
    assert not (known & (depths < 0.85 * 20)).any()


def test_masked_cells_and_sky_get_none() -> None:
    photos = pictures(2, RED, BLUE)
    mask = torch.ones(HEIGHT, WIDTH, 1, dtype=torch.bool)
    mask[:, WIDTH * 3 // 4 :] = False
    points, _ = guessed(photos, TWO, LEFT_HALF, masks=[mask, None])
    assert len(points) == pytest.approx(0.75 * len(guessed(photos, TWO, LEFT_HALF)[0]), rel=0.05)
    shell = 100 * wall(0, 6, 10)[::7]
    sky = SkyPoints(shell, torch.zeros(len(shell), 3), torch.ones(2, len(shell), dtype=torch.bool))
    assert guessed_points(photos, TWO, LEFT_HALF, None, sky) is None


def test_there_is_none_for_objects_many_photos_one_photo_or_without_points() -> None:
    def none(photos: list[torch.Tensor], cameras: Cameras, points: torch.Tensor) -> bool:
        return guessed_points(photos, cameras, points, None, None) is None

    many = cameras_at(*((0, 0.01 * i, 0) for i in range(24)))
    assert none(pictures(24), many, LEFT_HALF) and not none(pictures(23), many[:23], LEFT_HALF)
    assert none(pictures(1), TWO[:1], LEFT_HALF)
    assert none(pictures(2), TWO, torch.empty(0, 3)) and none(pictures(2), TWO, -LEFT_HALF)
    assert none(pictures(2), TWO, wall(-6, 6, 10)), "nothing is missing"
    opaque = torch.full((HEIGHT, WIDTH, 1), 255, dtype=torch.uint8)
    assert none([torch.cat([picture, opaque], dim=-1) for picture in pictures(2)], TWO, LEFT_HALF)


@pytest.mark.parametrize("wanted", [True, False])
def test_training_starts_with_them_if_wanted(wanted: bool) -> None:
    model = small_model(num_points=50, guess_depths=wanted)
    model.seed_points = (LEFT_HALF, torch.zeros_like(LEFT_HALF))
    model.know_photos(pictures(2, RED, BLUE), TWO)
    assert model.num_points > 1500 if wanted else model.num_points == 50
