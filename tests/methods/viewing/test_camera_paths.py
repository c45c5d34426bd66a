# SPDX-License-Identifier: Apache-2.0
"""Paths of a camera: they look where the photos look, keep upright, and move evenly."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from img3d_methods.viewing.camera_paths import (
    MAX_KEYS,
    PathKind,
    Placement,
    default_path,
    even,
    path_cameras,
    picture_size,
    spiral,
    through_cameras,
    turntable,
    walking_order,
)

CENTER = np.array([0.4, -0.3, 0.2])
FloatArray = npt.NDArray[np.float64]


def looking(origins: FloatArray, targets: FloatArray) -> FloatArray:
    """Upright camera-to-world matrices `[C, 3, 4]`."""
    back = origins - targets
    back = back / np.linalg.norm(back, axis=1, keepdims=True)
    right = np.cross([0.0, 0.0, 1.0], back)
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(back, right), back, origins], axis=2)


def on_sphere(azimuths: FloatArray, elevations: FloatArray, distance: float = 2.0) -> FloatArray:
    flat = np.cos(elevations)
    directions = np.stack([flat * np.cos(azimuths), flat * np.sin(azimuths), np.sin(elevations)], axis=1)
    return CENTER + distance * directions


def cameras_at(poses: FloatArray, **intrinsics: object) -> Cameras:
    given = {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0, "width": 64, "height": 48, **intrinsics}
    return Cameras(torch.from_numpy(poses).float(), **given)  # pyright: ignore[reportArgumentType]


def around(count: int = 24, arc: float = 2 * math.pi) -> Cameras:
    """Photos of something, from an arc about it, at elevations between 0.2 and 0.6."""
    azimuths = np.arange(count) * arc / count + 0.7
    elevations = 0.4 + 0.2 * np.sin(5 * np.arange(count))
    origins = on_sphere(azimuths, elevations)
    return cameras_at(looking(origins, np.broadcast_to(CENTER, origins.shape)))


def in_a_room(count: int = 20) -> Cameras:
    """Photos taken outward, from the middle of a room."""
    azimuths = 2 * math.pi * np.arange(count) / count
    outward = np.stack([np.cos(azimuths), np.sin(azimuths), np.full(count, -0.1)], axis=1)
    origins = CENTER + 0.2 * outward
    return cameras_at(looking(origins, origins + outward))


def off_axis(poses: FloatArray, target: FloatArray = CENTER) -> float:
    """Largest angle between an optical axis and what it should meet, in radians."""
    towards = target - poses[:, :, 3]
    towards = towards / np.linalg.norm(towards, axis=1, keepdims=True)
    return float(np.arccos((towards * -poses[:, :, 2]).sum(axis=1).clip(-1, 1)).max())


def steps_of(poses: FloatArray, closed: bool = True) -> FloatArray:
    """Distances from each frame to the next."""
    origins = np.concatenate([poses[:, :, 3], poses[:1, :, 3]]) if closed else poses[:, :, 3]
    return np.linalg.norm(np.diff(origins, axis=0), axis=1)


def assert_upright_rotations(poses: FloatArray) -> None:
    rotations = poses[:, :, :3]
    assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(rotations), 1)
    assert np.abs(rotations[:, 2, 0]).max() < 1e-9, "the horizon is tilted"
    assert (rotations[:, 2, 1] > 0).all(), "upside down"


class TestPlacement:
    def test_what_photos_look_at_is_found(self) -> None:
        placement = Placement.of(around())
        assert np.allclose(placement.center, CENTER, atol=1e-5)
        assert placement.inward and placement.distance == pytest.approx(2.0, abs=1e-4)
        assert placement.all_around

    @pytest.mark.parametrize("arc", [90, 180, 230])
    def test_an_arc_is_not_all_around(self, arc: float) -> None:
        placement = Placement.of(around(arc=math.radians(arc)))
        first, length = placement.covered()
        assert not placement.all_around
        assert first == pytest.approx(0.7, abs=1e-3) and math.degrees(length) == pytest.approx(arc * 23 / 24, abs=0.1)

    def test_a_room_is_looked_at_from_its_middle(self) -> None:
        placement = Placement.of(in_a_room())
        assert not placement.inward
        assert np.linalg.norm(placement.center - CENTER) < 0.05

    def test_parallel_axes_and_one_photo_have_something_in_front_of_them(self) -> None:
        side_by_side = np.stack([np.linspace(-1, 1, 5), np.zeros(5), np.zeros(5)], axis=1)
        for origins in (side_by_side, side_by_side[:1]):
            placement = Placement.of(cameras_at(looking(origins, origins + [0.0, 1.0, 0.0])))
            assert placement.inward and placement.center[1] > 0.5 and placement.distance > 0.5


class TestTurntable:
    def test_every_frame_looks_at_the_centre_from_the_same_distance_and_height(self) -> None:
        poses = turntable(Placement.of(around()), 90)
        assert off_axis(poses) < 1e-4
        assert np.allclose(np.linalg.norm(poses[:, :, 3] - CENTER, axis=1), 2.0, atol=1e-4)
        assert np.ptp(poses[:, 2, 3]) < 1e-9
        assert_upright_rotations(poses)

    def test_it_is_a_closed_circle_at_an_even_pace(self) -> None:
        steps = steps_of(turntable(Placement.of(around()), 90))
        assert steps.max() / steps.min() < 1 + 1e-6
        assert steps.sum() == pytest.approx(2 * math.pi * 2.0 * math.cos(0.4), rel=0.02)

    def test_it_begins_where_the_first_photo_was_taken(self) -> None:
        cameras = around()
        azimuth = np.arctan2(*(turntable(Placement.of(cameras), 10)[0, :2, 3] - CENTER[:2])[::-1])
        assert azimuth == pytest.approx(0.7, abs=1e-4)

    def test_in_a_room_it_looks_around(self) -> None:
        placement = Placement.of(in_a_room())
        poses = turntable(placement, 60)
        assert ((poses[:, :, 3] - placement.center) * poses[:, :, 2]).sum(axis=1).max() < 0, "looks outward"
        assert_upright_rotations(poses)
        assert steps_of(poses).max() < 0.1

    def test_photos_from_straight_above_are_followed_from_a_slope(self) -> None:
        origins = CENTER + np.array([[0.01 * i, 0.005, 2.0] for i in range(8)])
        poses = turntable(Placement.of(cameras_at(looking(origins, np.broadcast_to(CENTER, origins.shape)))), 30)
        assert_upright_rotations(poses)
        assert np.isfinite(poses).all()


class TestSpiral:
    def test_it_goes_around_up_and_down_within_the_photos_elevations(self) -> None:
        poses = spiral(Placement.of(around()), 90)
        assert off_axis(poses) < 1e-4
        assert_upright_rotations(poses)
        elevations = np.arcsin((poses[:, 2, 3] - CENTER[2]) / 2)
        assert 0.19 < elevations.min() < 0.3 and 0.5 < elevations.max() < 0.61
        azimuths = np.unwrap(np.arctan2(poses[:, 1, 3] - CENTER[1], poses[:, 0, 3] - CENTER[0]))
        assert np.ptp(azimuths) == pytest.approx(2 * math.pi * 89 / 90, abs=1e-3)

    def test_it_stays_on_the_side_that_photos_show(self) -> None:
        poses = spiral(Placement.of(around(arc=math.radians(100))), 90)
        azimuths = np.arctan2(poses[:, 1, 3] - CENTER[1], poses[:, 0, 3] - CENTER[0])
        assert 0.7 < azimuths.min() and azimuths.max() < 0.7 + math.radians(100)
        assert math.degrees(np.ptp(azimuths)) > 70
        assert off_axis(poses) < 1e-4

    @pytest.mark.parametrize("arc", [100, 360])
    def test_it_closes_without_a_jump(self, arc: float) -> None:
        steps = steps_of(spiral(Placement.of(around(arc=math.radians(arc))), 240))
        changes = np.abs(np.diff(np.append(steps, steps[0])))
        assert changes.max() < 0.1 * steps.max()


class TestThroughCameras:
    def test_it_begins_and_ends_at_photos_and_passes_the_others(self) -> None:
        cameras = around(12)
        poses, keys = through_cameras(cameras, 600), cameras.camera_to_worlds.double().numpy()
        assert np.allclose(poses[[0, -1]], keys[[0, -1]], atol=1e-5)
        distances = np.linalg.norm(poses[None, :, :, 3] - keys[:, None, :, 3], axis=2).min(axis=1)
        assert distances.max() < 0.02
        rotations = poses[:, :, :3]
        assert np.allclose(rotations @ rotations.transpose(0, 2, 1), np.eye(3), atol=1e-9)

    def test_it_moves_at_an_even_pace_without_jumps(self) -> None:
        cameras = around(12)
        cameras.camera_to_worlds[3:] = around(24).camera_to_worlds[6:15]  # photos stand closer from there on
        steps = steps_of(through_cameras(cameras, 300), closed=False)
        assert steps.max() < 2 * steps.mean()
        assert np.abs(np.diff(steps)).max() < 0.2 * steps.mean()

    def test_between_photos_it_still_looks_at_what_they_look_at(self) -> None:
        assert math.degrees(off_axis(through_cameras(around(12), 300))) < 3

    def test_photos_at_one_place_and_a_single_one_are_no_trouble(self) -> None:
        twice = cameras_at(np.repeat(around(1).camera_to_worlds.double().numpy(), 2, axis=0))
        for cameras in (twice, around(1)):
            poses = through_cameras(cameras, 10)
            assert poses.shape == (10, 3, 4) and np.isfinite(poses).all()

    def test_of_many_photos_the_hands_trembling_is_left_out(self) -> None:
        count = 8 * MAX_KEYS
        origins = on_sphere(np.arange(count) * math.pi / count, np.full(count, 0.4))
        trembling = origins + np.random.default_rng(0).normal(scale=0.03, size=origins.shape)
        paths = [
            through_cameras(cameras_at(looking(each, np.broadcast_to(CENTER, each.shape))), 200)
            for each in (origins, trembling)
        ]
        assert np.linalg.norm(paths[0][:, :, 3] - paths[1][:, :, 3], axis=1).mean() < 0.03


def test_photos_in_order_stay_so_and_shuffled_ones_are_put_in_one() -> None:
    origins = on_sphere(np.arange(24) * 0.2, np.full(24, 0.4))
    assert (walking_order(origins) == np.arange(24)).all()
    shuffled = np.random.default_rng(0).permutation(24)
    shuffled = np.concatenate([[0], shuffled[shuffled != 0]])
    steps = np.linalg.norm(np.diff(origins[shuffled][walking_order(origins[shuffled])], axis=0), axis=1)
    assert np.allclose(steps, steps[0])


@pytest.mark.parametrize("kind", ["turntable", "spiral", "cameras"])
def test_cameras_of_a_path_show_as_much_as_the_photos(kind: PathKind) -> None:
    path = path_cameras(around(), kind, 30, (128, 96))
    assert path.shape == (30,)
    assert {(int(camera.width), int(camera.height)) for camera in path} == {(128, 96)}
    assert torch.allclose(path.fx, torch.tensor(100.0)) and torch.allclose(path.cx, torch.tensor(64.0))
    assert (path.camera_type == CameraType.PERSPECTIVE.value).all()


def test_a_wider_picture_shows_the_same_solid_angle() -> None:
    path = path_cameras(around(), "turntable", 2, (192, 64))
    assert float(path.fx[0]) == pytest.approx(50 * math.sqrt(192 * 64 / (64 * 48)))


def test_photos_that_are_no_perspective_ones_give_a_view_of_ninety_degrees() -> None:
    poses = around().camera_to_worlds.double().numpy()
    fisheye = cameras_at(poses, camera_type=CameraType.FISHEYE)
    assert float(path_cameras(fisheye, "turntable", 2, (100, 100)).fx[0]) == pytest.approx(50)


def test_sizes_are_even_and_keep_the_photos_shape() -> None:
    photos = cameras_at(around().camera_to_worlds.double().numpy(), width=4031, height=3023)
    assert picture_size(photos, 1280) == (1280, 960)
    assert picture_size(around(), 1280) == (64, 48), "never larger than photos"
    assert [even(length) for length in (1, 2, 3.2, 101)] == [2, 2, 4, 100]


def test_the_path_to_begin_with_suits_the_photos() -> None:
    assert default_path(around()) == "turntable"
    assert default_path(around(arc=math.radians(120))) == "spiral"
