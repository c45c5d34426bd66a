# SPDX-License-Identifier: Apache-2.0
"""Reconstructions come out upright, whatever photos they are of: by sensors, by their ground, by level photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.placement import placement_of
from img3d_dataparsers.sfm.upright import Upright, find_upright

ANY_WORLD = Rotation.from_euler("xyz", [1.0, -0.7, 2.0]).as_matrix()
"""Which way up a mapping leaves a reconstruction."""


def looking_at(origins: FloatArray, target: Sequence[float] = (0, 0, 0), roll: float = 2.0) -> FloatArray:
    """Poses `[N, 4, 4]` of cameras that look at a point, z up, held askew by some degrees."""
    rng = np.random.default_rng(1)
    poses = np.tile(np.eye(4), (len(origins), 1, 1))
    for pose, origin in zip(poses, origins, strict=True):
        back = origin - np.array(target)
        back = back / np.linalg.norm(back)
        right = np.cross([0, 0, 1.0], back)
        right /= np.linalg.norm(right)
        level = np.stack([right, np.cross(back, right), back], axis=1)
        pose[:3, :3] = level @ Rotation.from_euler("z", roll * rng.normal(), degrees=True).as_matrix()
        pose[:3, 3] = origin
    return poses


def ring(degrees: float, height: float = 2.0, count: int = 20) -> FloatArray:
    """Places on a part of a circle around the z axis."""
    angles = np.radians(np.linspace(0, degrees, count))
    return np.stack([3 * np.cos(angles), 3 * np.sin(angles), np.full(count, height)], axis=1)


def object_on_table(table: float = 0.4, count: int = 2000, slope: float = 0.0) -> FloatArray:
    """Points of a ball, and of a table whose share they are, which may slope (degrees)."""
    rng = np.random.default_rng(2)
    ball = rng.normal(size=(round(count * (1 - table)), 3))
    ball = 0.5 * ball / np.linalg.norm(ball, axis=1, keepdims=True) + [0, 0, 0.5]
    plane = rng.uniform(-1.5, 1.5, size=(round(count * table), 3)) * [1, 1, 0] + rng.normal(
        size=(round(count * table), 3)
    ) * [0, 0, 0.002]
    return np.concatenate([ball, plane @ Rotation.from_euler("x", slope, degrees=True).as_matrix().T])


def found(
    poses: FloatArray, points: FloatArray, sensed: Sequence[FloatArray | None] | None = None
) -> tuple[float, Upright]:
    """How many degrees up is off, and what told it, in a world that lies any which way."""
    turned = poses.copy()
    turned[:, :3] = ANY_WORLD @ poses[:, :3]
    upright = find_upright(turned, points @ ANY_WORLD.T, sensed or [None] * len(poses))
    return float(np.degrees(np.arccos(np.clip(upright.up @ ANY_WORLD[:, 2], -1, 1)))), upright


@pytest.mark.parametrize("degrees", [360, 180, 60])
def test_a_table_is_level_however_far_one_walked_around_it(degrees: float) -> None:
    """The mean of the cameras' own up, of a quarter of a circle from above, is off by 30 degrees."""
    poses = looking_at(ring(degrees))
    error, upright = found(poses, object_on_table())
    assert error < 0.05
    assert "ground plane" in upright.source
    assert upright.ground == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("degrees", [360, 180])
def test_without_a_ground_the_photos_are_level(degrees: float) -> None:
    error, upright = found(looking_at(ring(degrees)), object_on_table(table=0.0))
    assert error < 2 and upright.source == "the level of the photos" and upright.ground is None


def test_photos_held_upright_among_others_held_across() -> None:
    """Without EXIF, some photos lie on their side."""
    poses = looking_at(ring(360))
    for pose in poses[::5]:
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("z", 90, degrees=True).as_matrix()
    assert found(poses, object_on_table(table=0.0))[0] < 2


def test_a_slope_is_no_ground_where_the_photos_say_so() -> None:
    error, upright = found(looking_at(ring(360)), object_on_table(slope=15))
    assert error < 2 and upright.source == "the level of the photos"


def test_a_ceiling_is_no_ground() -> None:
    points = object_on_table() * [1, 1, -1] + [0, 0, 5]  # the plane above the cameras
    error, upright = found(looking_at(ring(360), target=(0, 0, 3)), points)
    assert error < 2 and upright.ground is None


def test_sensors_know_better() -> None:
    """A drone that looks straight down, whose photos have no up of their own."""
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (12, 1, 1))
    poses[:, :3, 3] = rng.uniform(-5, 5, size=(12, 3)) * [1, 1, 0] + [0, 0, 10]
    poses[6:, :3, :3] = np.diag([-1.0, -1, 1])  # on the way back
    points = object_on_table()
    error, upright = found(poses, points, [np.array([0, 0, 1.0])] * 12)
    assert error < 1e-6 and upright.source == "the cameras' sensors"


@pytest.mark.parametrize("degrees", [180, 5])
@pytest.mark.parametrize("wrong", [np.array([1.0, 0, 0]), np.array([0, 0, 1.0])])
def test_tags_that_cannot_be_right(wrong: FloatArray, degrees: float) -> None:
    """Such as those of photos that were turned afterwards."""
    error, upright = found(looking_at(ring(degrees)), object_on_table(), [wrong] * 20)
    assert degrees == 5 or (error < 0.5 and "sensors" not in upright.source)
    assert wrong[2] or "sensors" not in upright.source


def test_a_placed_world_has_its_ground_at_zero_and_looks_along_y() -> None:
    poses, points = looking_at(ring(180)), object_on_table()
    turned = poses.copy()
    turned[:, :3] = ANY_WORLD @ poses[:, :3]
    turned[:, :3, 3] += 7
    placement = placement_of(turned, points @ ANY_WORLD.T + 7, [None] * 20, [None] * 20)
    placed = placement.points(points @ ANY_WORLD.T + 7)
    assert np.median(placed[-800:, 2]) == pytest.approx(0, abs=0.01)
    first = placement.pose(turned[0])
    assert -first[1, 2] > 0 and abs(first[0, 2]) < 1e-6 and first[1, 1] > 0
    distances = np.linalg.norm(placed - first[:3, 3], axis=1)
    np.testing.assert_allclose(distances, np.linalg.norm(points - poses[0, :3, 3], axis=1))
    assert placement.scale == 1 and placement.scale_source is None
