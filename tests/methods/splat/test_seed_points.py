# SPDX-License-Identifier: Apache-2.0
"""Random seed points lie where the cameras look."""

from __future__ import annotations

import math

import pytest
import torch
from gaussian_scenes import looking_at
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.cameras import Cameras

from img3d_kernels.poses import point_of_attention
from img3d_methods.splat.seed_points import MAX_DEPTH, MIN_DEPTH, random_points_in_frusta


def ring(num: int, radius: float, target: tuple[float, float, float] = (0.3, -0.2, 0.1)) -> Cameras:
    """Cameras around `target`, looking at it."""
    poses = [
        looking_at(
            (target[0] + radius * math.cos(angle), target[1] + radius * math.sin(angle), target[2] + 0.3), target
        )
        for angle in torch.linspace(0, 2 * math.pi, num + 1)[:-1].tolist()
    ]
    return Cameras(camera_to_worlds=torch.stack(poses), fx=60.0, fy=50.0, cx=30.0, cy=26.0, width=64, height=48)


def test_attention_is_where_the_axes_meet() -> None:
    cameras = ring(7, 2.0)
    point = point_of_attention(cameras.camera_to_worlds[:, :, 3], -cameras.camera_to_worlds[:, :, 2])
    torch.testing.assert_close(point, torch.tensor([0.3, -0.2, 0.1]), atol=1e-4, rtol=0)


def test_parallel_axes_have_their_attention_beside_the_cameras() -> None:
    origins = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    point = point_of_attention(origins, torch.tensor([[0.0, 0, -1]]).repeat(3, 1))
    torch.testing.assert_close(point, torch.tensor([1.0, 0.0, 0.0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.floats(0.05, 20.0), st.integers(0, 5))
def test_every_point_is_seen_by_a_camera_at_a_sensible_depth(num: int, radius: float, seed: int) -> None:
    cameras = ring(num, radius)
    points = random_points_in_frusta(cameras, 100, seed)
    assert points.shape == (100, 3) and points.dtype == torch.float32
    rotations, origins = cameras.camera_to_worlds[:, :, :3], cameras.camera_to_worlds[:, :, 3]
    local = torch.einsum("cij,nci->ncj", rotations, points[:, None] - origins)
    depth = -local[..., 2]
    u = cameras.fx[:, 0] * local[..., 0] / depth + cameras.cx[:, 0]
    v = -cameras.fy[:, 0] * local[..., 1] / depth + cameras.cy[:, 0]
    distance = (origins - torch.tensor([0.3, -0.2, 0.1])).norm(dim=-1).median()
    slack = 1e-3
    seen = (u >= -slack) & (u <= 64 + slack) & (v >= -slack) & (v <= 48 + slack)
    seen &= (depth >= MIN_DEPTH * distance * 0.999) & (depth <= MAX_DEPTH * distance * 1.001)
    assert bool(seen.any(dim=1).all())


def test_cameras_in_one_place_still_get_points_in_front() -> None:
    cameras = Cameras(
        camera_to_worlds=looking_at((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)).repeat(3, 1, 1),
        fx=50.0, fy=50.0, cx=16.0, cy=16.0, width=32, height=32,
    )  # fmt: skip
    points = random_points_in_frusta(cameras, 50)
    assert torch.isfinite(points).all()
    assert bool((points[:, 0] > 0.1).all())


def test_the_choice_is_repeatable() -> None:
    cameras = ring(5, 1.0)
    assert torch.equal(random_points_in_frusta(cameras, 10, 3), random_points_in_frusta(cameras, 10, 3))
    assert not torch.equal(random_points_in_frusta(cameras, 10, 3), random_points_in_frusta(cameras, 10, 4))
    with pytest.raises(RuntimeError):
        random_points_in_frusta(cameras, -1)
