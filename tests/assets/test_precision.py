# SPDX-License-Identifier: Apache-2.0
"""What is written far from the origin keeps its shape, whatever the format's numbers are like."""

from __future__ import annotations

import numpy as np
import pytest

from img3d_assets.gaussian_frames import in_original_frame
from img3d_assets.gaussians import Gaussians
from img3d_assets.precision import nearby_origin, needs_double_precision

UTM = np.array([4.6e5, 5.4e6, 300.0])
CUBE = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])


@pytest.mark.parametrize(
    ("size", "place", "needed"),
    [
        (1.0, 0.0, False),
        (1.0, 100.0, False),
        (1e-6, 0.0, False),
        (1.0, 1e6, True),
        (1e5, 5e6, False),
        (1.0, 1e12, True),
    ],
)
def test_what_single_precision_blurs(size: float, place: float, needed: bool) -> None:
    points = size * CUBE + [0.0, place, 0.0]
    assert needs_double_precision(points) == needed
    assert nearby_origin(points) == ((0.0, place, 0.0) if needed else (0.0, 0.0, 0.0))


def test_no_points_need_none() -> None:
    assert nearby_origin(np.empty((0, 3))) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("width", [0.01, 10.0])
def test_gaussians_of_a_georeferenced_run_come_back_within_a_millimetre(width: float) -> None:
    """However large they are: their centres are where somebody measured them."""
    rng = np.random.default_rng(0)
    world = rng.uniform(-10, 10, (200, 3)) + UTM
    scale, transform = 0.1, np.column_stack([np.eye(3)[[1, 2, 0]], -UTM[[1, 2, 0]]])
    means = scale * (world @ transform[:, :3].T + transform[:, 3])
    splats = Gaussians(
        means.astype(np.float32),
        np.tile(np.float32([1, 0, 0, 0]), (200, 1)),
        np.full((200, 3), np.log(scale * width), np.float32),
        np.zeros(200, np.float32),
        np.zeros((200, 3), np.float32),
        np.zeros((200, 0, 3), np.float32),
    )
    back = in_original_frame(splats, transform, scale)
    np.testing.assert_allclose(back.means + np.array(back.origin), world, rtol=0, atol=1e-3)


def test_one_point_has_no_shape_to_lose() -> None:
    assert nearby_origin(np.array([[0.0, 0, 2]])) == (0.0, 0.0, 0.0)
    assert nearby_origin(np.array([[0.0, 4e6, 2]])) == (0.0, 4e6, 2.0)
