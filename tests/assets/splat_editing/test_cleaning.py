# SPDX-License-Identifier: Apache-2.0
"""Cleaning takes floaters, fog and needles away, and nothing of what was photographed, whatever its shape and units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_editing.cleaning import Viewpoints, cleaned, unwanted

Points = np.ndarray


def round_splats(means: Points, width: float | Points, opacity: float = 3.0) -> Gaussians:
    """Balls at these places."""
    num = len(means)
    widths = np.broadcast_to(np.asarray(width, float).reshape(-1, 1), (num, 3))
    return Gaussians(
        means.astype(np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (num, 1)),
        np.log(widths).astype(np.float32),
        np.full(num, opacity, np.float32),
        np.zeros((num, 3), np.float32),
        np.zeros((num, 0, 3), np.float32),
    )


def directions(rng: np.random.Generator, num: int) -> Points:
    vectors = rng.normal(size=(num, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def thing(kind: str, rng: np.random.Generator, num: int = 3000) -> Gaussians:
    """What somebody photographed, about as large as the unit sphere."""
    if kind == "sphere":
        return round_splats(directions(rng, num), 0.03)
    if kind == "cloud":
        return round_splats(directions(rng, num) * rng.uniform(0, 1, (num, 1)) ** (1 / 3), rng.uniform(0.01, 0.05, num))
    if kind == "plate":
        return round_splats(np.c_[rng.uniform(-1, 1, (num, 2)), np.zeros(num)], 0.02)
    if kind == "wire":  # a ring on a sphere; its Gaussians are long, and lie along it
        turn = 2 * np.pi * (np.arange(300) + rng.uniform(0, 0.5, 300)) / 300
        ring = round_splats(np.c_[1.5 * np.cos(turn), 1.5 * np.sin(turn), np.zeros(300)], 0.005)
        ring.quats = np.c_[np.cos(turn / 2 + np.pi / 4), 0 * turn, 0 * turn, np.sin(turn / 2 + np.pi / 4)].astype("f")
        ring.log_scales[:, 0] = np.log(0.06)
        return Gaussians.joined([ring, round_splats(directions(rng, num), 0.03)])
    two = round_splats(directions(rng, num // 3) * 0.3 + [0, 0, 1.3], 0.02)  # a smaller one that floats above it
    return Gaussians.joined([two, round_splats(directions(rng, num) * 0.8, 0.03)])


KINDS = ("sphere", "cloud", "plate", "wire", "two")


def looking_in(rng: np.random.Generator, num: int, distance: float = 4.0) -> Viewpoints:
    """Cameras around the origin that look there."""
    positions = distance * directions(rng, num)
    rotations = []
    for position in positions:
        forward = -position / distance
        right = np.cross(forward, directions(rng, 1)[0])
        right /= np.linalg.norm(right)
        rotations.append(np.stack([right, np.cross(forward, right), forward]))
    return Viewpoints(positions, np.array(rotations), np.tile([-0.6, 0.6, -0.45, 0.45], (num, 1)))


def moved(scene: Gaussians, cameras: Viewpoints, scale: float, offset: Points, turn: Points) -> tuple:
    """Both in another frame."""
    turned = rotated(replace(scene, log_scales=scene.log_scales + np.float32(np.log(scale))), turn)
    turned.means = (scale * turned.means + offset).astype(np.float32)
    positions = scale * cameras.positions @ turn.T + offset
    return turned, Viewpoints(positions, cameras.rotations @ turn.T, cameras.slopes)


class TestFloaters:
    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        kind=st.sampled_from(KINDS),
        scale=st.sampled_from([1e-3, 1.0, 400.0]),
        known=st.booleans(),
        num_cameras=st.integers(2, 40),
        num_floaters=st.integers(1, 250),
    )
    def test_a_shell_of_them_goes_and_the_thing_stays(
        self, seed: int, kind: str, scale: float, known: bool, num_cameras: int, num_floaters: int
    ) -> None:
        rng = np.random.default_rng(seed)
        scene = thing(kind, rng)
        shell = directions(rng, num_floaters) * rng.uniform(2.2, 7, (num_floaters, 1))
        floaters = round_splats(shell, rng.uniform(0.005, 0.05, num_floaters), rng.uniform(-3, 5))
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)
        both, cameras = moved(
            Gaussians.joined([scene, floaters]), looking_in(rng, num_cameras), scale, rng.normal(size=3), turn
        )
        gone = unwanted(both, cameras if known else None).any()
        assert not gone[: len(scene)].any()
        assert gone[len(scene) :].mean() >= 0.9

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_clean_scene_stays_as_it_is(self, kind: str) -> None:
        rng = np.random.default_rng(0)
        scene = thing(kind, rng)
        for cameras in (None, looking_in(rng, 12)):
            left, removed = cleaned(scene, cameras)
            assert len(left) == len(scene) and not removed.any().any()
            assert str(removed) == f"Cleaned away 0 of {len(scene):,} Gaussians."

    def test_a_few_together_are_floaters_too(self) -> None:
        rng = np.random.default_rng(1)
        clump = round_splats(rng.normal(0, 0.02, (5, 3)) + [3, 0, 0], 0.02)
        removed = unwanted(Gaussians.joined([thing("sphere", rng), clump]))
        assert removed.isolated.sum() == 5 and removed.isolated[-5:].all()

    def test_walls_of_few_large_gaussians_stay(self) -> None:
        rng = np.random.default_rng(2)
        room = round_splats(5 * directions(rng, 120), 0.7)
        removed = unwanted(Gaussians.joined([thing("sphere", rng), room]), looking_in(rng, 20))
        assert not removed.any().any()

    def test_nothing_is_said_of_a_handful(self) -> None:
        rng = np.random.default_rng(3)
        assert not unwanted(round_splats(rng.normal(size=(5, 3)), 0.01), looking_in(rng, 3)).any().any()


class TestCameras:
    def test_fog_before_a_camera(self) -> None:
        rng = np.random.default_rng(0)
        scene, cameras = thing("sphere", rng), looking_in(rng, 20)
        at_lens = cameras.positions[:3] + 0.3 * cameras.rotations[:3, 2]
        around = cameras.positions[3:5]
        fog = Gaussians.joined([round_splats(at_lens, 0.05, -1), round_splats(around, 0.4, -2)])
        removed = unwanted(Gaussians.joined([scene, fog]), cameras)
        assert removed.near[-5:].all() and removed.any().sum() == 5

    def test_fog_between_two_cameras(self) -> None:
        rng = np.random.default_rng(0)
        cameras = looking_in(rng, 60)
        gaps = np.linalg.norm(cameras.positions[:, None] - cameras.positions, axis=2) + 99 * np.eye(60)
        first, second = np.unravel_index(gaps.argmin(), gaps.shape)
        between = (cameras.positions[first] + cameras.positions[second]) / 2 - 0.2 * cameras.rotations[first, 2]
        behind = round_splats(between + rng.normal(0, 0.05, (30, 3)), 0.05)
        removed = unwanted(Gaussians.joined([thing("sphere", rng), behind]), cameras)
        assert removed.near[-30:].all() and removed.any().sum() == 30

    def test_a_wide_haze_that_few_cameras_see(self) -> None:
        rng = np.random.default_rng(0)
        scene, cameras = thing("sphere", rng), looking_in(rng, 16)
        cameras.rotations[1:, 2] *= -1  # away from it: one camera alone looks in
        haze = round_splats(cameras.positions[:1] * 0.5, 1.5, -2)
        assert unwanted(Gaussians.joined([scene, haze]), cameras).near[-1]

    def test_what_no_camera_sees(self) -> None:
        rng = np.random.default_rng(0)
        scene, cameras = thing("sphere", rng), looking_in(rng, 1)
        hidden = round_splats(cameras.positions[0] * 1.5 + rng.normal(0, 0.05, (300, 3)), 0.05)
        removed = unwanted(Gaussians.joined([scene, hidden]), cameras)
        assert removed.unseen[-300:].all() and removed.any().sum() == 300
        all_around = replace(cameras, slopes=np.full((1, 4), np.inf))
        assert not unwanted(Gaussians.joined([scene, hidden]), all_around).any().any()

    def test_what_is_far_outside_of_what_they_look_at_but_no_sky(self) -> None:
        rng = np.random.default_rng(0)
        scene, cameras = thing("sphere", rng), looking_in(rng, 20)
        far = round_splats(300 * directions(rng, 1) + rng.normal(0, 1, (50, 3)), 0.5)
        sky = round_splats(300 * directions(rng, 150), 40.0)
        assert unwanted(Gaussians.joined([scene, far]), cameras).outside.sum() == 50
        assert unwanted(Gaussians.joined([scene, far])).outside[-50:].all()
        assert not unwanted(Gaussians.joined([scene, sky]), cameras).any().any()

    def test_cameras_close_to_the_thing_take_nothing_of_it(self) -> None:
        rng = np.random.default_rng(0)
        scene = round_splats(directions(rng, 20_000), 0.01)
        for distance in (1.1, 1.5, 2.5):
            for number in (1, 6, 40):
                assert not unwanted(scene, looking_in(rng, number, distance)).near.any()


class TestNeedles:
    def spikes(self, rng: np.random.Generator, length: float) -> Gaussians:
        """They stick out of the unit sphere."""
        out = directions(rng, 20)
        spikes = round_splats(out, 0.004)
        half = out + [1, 0, 0]
        spikes.quats = np.c_[np.zeros(20), half].astype(np.float32)  # half a turn takes x there
        spikes.log_scales[:, 0] = np.log(length)
        return spikes

    @pytest.mark.parametrize("known", [True, False])
    def test_spikes_go_and_what_lies_along_a_wire_stays(self, known: bool) -> None:
        rng = np.random.default_rng(0)
        scene, cameras = thing("wire", rng), looking_in(rng, 20) if known else None
        removed = unwanted(Gaussians.joined([scene, self.spikes(rng, 0.5)]), cameras)
        assert removed.needles[-20:].all() and removed.any().sum() == 20
        assert "20 sticking out as needles" in str(removed)

    def test_what_cameras_see_end_on_may_stick_out_less(self) -> None:
        rng = np.random.default_rng(0)
        upwards = self.spikes(rng, 0.12)
        upwards = upwards[upwards.means[:, 2] > 0.7]
        both = Gaussians.joined([thing("sphere", rng), upwards])
        many = looking_in(rng, 200)
        height = many.positions[:, 2] / 4
        counts = []
        for chosen in (height > 0.8, np.abs(height) < 0.3):
            cameras = Viewpoints(many.positions[chosen], many.rotations[chosen], many.slopes[chosen])
            counts.append(unwanted(both, cameras).needles[-len(upwards) :].sum())
        assert counts[0] > counts[1]
