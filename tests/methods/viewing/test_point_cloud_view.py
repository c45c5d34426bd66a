# SPDX-License-Identifier: Apache-2.0
"""A NeRF in the viewer: small pictures or points while the camera moves, a large picture where it rests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
from gaussian_scenes import looking_at, pinhole_camera
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import OrientedBox
from small_nerf import small_nerf
from watched_model import Page, WatchedModel

from img3d_methods.viewing.browser_view import SHARE_OF_TIME
from img3d_methods.viewing.point_cloud_view import seen_points


def ring_of_cameras(count: int = 5) -> Cameras:
    """Around the origin, each looking at it."""
    angles = torch.linspace(0, 6, count)
    poses = [looking_at((2 * float(a.cos()), 2 * float(a.sin()), 0.5)) for a in angles]
    return Cameras(
        camera_to_worlds=torch.stack(poses),
        **{"fx": 30.0, "fy": 30.0, "cx": 16.0, "cy": 12.0, "width": 32, "height": 24},
        camera_type=CameraType.PERSPECTIVE,
    )


class Ball:
    """A model of a ball of radius 0.5, red where x > 0, with nothing behind it; rendered as Nerfstudio's NeRFs are."""

    device = torch.device("cpu")

    def get_outputs_for_camera_ray_bundle(self, rays: Any) -> dict[str, torch.Tensor]:
        b = (rays.origins * rays.directions).sum(-1, keepdim=True)
        below_root = b**2 - (rays.origins**2).sum(-1, keepdim=True) + 0.25
        depth = -b - below_root.clamp_min(0).sqrt()
        ends = rays.origins + rays.directions * depth
        red = (ends[..., :1] > 0).float()
        rgb = torch.cat([red, torch.zeros_like(red), 1 - red], dim=-1)
        return {"rgb": rgb, "depth": depth, "accumulation": (below_root > 0).float()}


class TestPoints:
    def test_points_lie_on_what_the_cameras_see_in_its_colours(self) -> None:
        points = seen_points(Ball(), ring_of_cameras(), 4000)  # pyright: ignore[reportArgumentType]
        assert 500 < len(points.positions) < 4000, "rays that meet nothing give none"
        assert np.abs(np.linalg.norm(points.positions, axis=1) - 0.5).max() < 1e-4
        red = points.positions[:, 0] > 0
        assert (points.colors[red] == [255, 0, 0]).all() and (points.colors[~red] == [0, 0, 255]).all()
        assert red.any() and not red.all()

    def test_the_same_rays_are_taken_again(self) -> None:
        first, again = (seen_points(Ball(), ring_of_cameras(), 300) for _ in range(2))  # pyright: ignore
        assert np.array_equal(first.positions, again.positions)


@pytest.fixture
def watched(viser_server: viser.ViserServer, tmp_path: Path) -> WatchedModel:
    made = WatchedModel(small_nerf(), viser_server, tmp_path)
    datamanager = SimpleNamespace(train_dataset=SimpleNamespace(cameras=ring_of_cameras()))
    made.viewer.pipeline = SimpleNamespace(datamanager=datamanager)
    made.panel._points.value = True
    made.panel._count.value = 1000
    return made


def opened(watched: WatchedModel) -> Page:
    """A page that has had its first picture."""
    page = watched.open_page()
    assert "rgb" in watched.frame(page, first=True, moving=True)
    assert not page.points
    return page


class TestPictures:
    def test_moving_frames_are_rendered_as_large_as_ten_a_second_allow(
        self, viser_server: viser.ViserServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = WatchedModel(small_nerf(num_samples=8), viser_server, tmp_path)
        page, seconds, render = watched.open_page(), [0.0], watched.model.picture

        def slowly(rays: Any) -> Any:
            seconds[0] += rays.size / 60_000
            return render(rays)

        monkeypatch.setattr(watched.model, "picture", slowly)
        monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
        watched.frame(page, first=True)
        sizes = [watched.frame(page, moving=True)["rgb"][..., 0].numel() for _ in range(6)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == pytest.approx(6_000, rel=0.02)
        assert not page.points


class TestFrames:
    def test_points_while_it_moves_and_a_picture_at_rest(self, watched: WatchedModel) -> None:
        page = opened(watched)
        assert watched.frame(page, moving=True) == "drawn by the page"
        (cloud,) = page.points
        assert cloud.visible and len(cloud.points) > 100
        assert page.has_plain_background
        asked = pinhole_camera()
        still = watched.frame(page)["rgb"]
        assert still.shape[:2] == (int(asked.height), int(asked.width))
        assert not cloud.visible
        assert watched.frame(page, moving=True) == "drawn by the page"
        assert cloud.visible and len(page.points) == 1, "what has not changed is not sent again"

    def test_points_are_where_the_pages_units_have_the_surface(self, watched: WatchedModel) -> None:
        page = opened(watched)
        watched.frame(page, moving=True)
        expected = seen_points(watched.model, ring_of_cameras(), 1000)
        assert np.allclose(page.points[0].points, 10 * expected.positions)
        assert np.array_equal(page.points[0].colors, expected.colors)

    def test_each_page_has_points_of_its_own(self, watched: WatchedModel) -> None:
        moving, resting = opened(watched), opened(watched)
        watched.frame(moving, moving=True)
        watched.frame(resting)
        assert moving.points[0].visible and not resting.points

    @pytest.mark.parametrize(
        "ask",
        [
            lambda watched: setattr(watched.panel._points, "value", False),
            lambda watched: setattr(watched.viewer.control_panel, "output_render", "depth"),
        ],
        ids=["box unchecked", "depth"],
    )
    def test_the_trainer_renders_moving_frames_too_if_asked(
        self, watched: WatchedModel, ask: Callable[[WatchedModel], None]
    ) -> None:
        page = opened(watched)
        watched.frame(page, moving=True)
        ask(watched)
        assert "depth" in watched.frame(page, moving=True)
        assert not page.points[0].visible

    def test_the_crop_box_crops_the_points(self, watched: WatchedModel) -> None:
        expected = torch.from_numpy(seen_points(watched.model, ring_of_cameras(), 1000).positions)
        box = OrientedBox(torch.eye(3), expected[0], torch.ones(3))
        watched.viewer.control_panel.crop_viewport, watched.viewer.control_panel.crop_obb = True, box
        page = opened(watched)
        watched.frame(page, moving=True)
        assert 0 < len(page.points[0].points) == int(box.within(expected).sum()) < len(expected)

    def test_the_sliders_change_the_points_at_once(self, watched: WatchedModel) -> None:
        page = opened(watched)
        watched.frame(page, moving=True)
        watched.panel._count.value = 2000
        watched.panel._point_size.value = 0.02
        watched.frame(page, moving=True)
        first, second = page.points
        assert len(second.points) > 1.5 * len(first.points)
        assert second.point_size == pytest.approx(0.2)
        assert second.name == first.name, "it takes the other's place"


class TestWhileTraining:
    def test_points_follow_the_training_as_often_as_time_allows(
        self, watched: WatchedModel, clock: Callable[[float], None]
    ) -> None:
        page = opened(watched)
        watched.frame(page, moving=True)
        watched.view._refresh_seconds = 1.0
        watched.model.step = 1
        clock(2 / SHARE_OF_TIME - 1)
        watched.view.after_step(1)
        watched.frame(page, moving=True)
        assert len(page.points) == 1
        clock(1)
        watched.view.after_step(2)
        watched.frame(page, moving=True)
        assert len(page.points) == 2

    def test_the_model_goes_on_training(self, watched: WatchedModel) -> None:
        opened(watched)
        watched.model.train()
        watched.view.after_step(5)
        assert watched.model.training
        assert "in the browser" in watched.panel._numbers.content

    def test_nothing_is_computed_without_a_page(self, watched: WatchedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*args: object) -> None:
            raise AssertionError("rendered for nobody")

        monkeypatch.setattr(watched.model, "get_outputs", never)
        monkeypatch.setattr(watched.model, "picture", never, raising=False)
        watched.view.after_step(5)
        watched.view.after_training(5)
