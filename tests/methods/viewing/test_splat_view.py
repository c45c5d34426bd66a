# SPDX-License-Identifier: Apache-2.0
"""The live view: pages draw splats, the trainer renders only what they cannot, and nothing happens without a page."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import viser
from gaussian_scenes import pinhole_camera, small_model
from hang_limit import HANG_SECONDS
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.viewer.render_state_machine import RenderAction
from watched_model import WatchedModel

from img3d_assets.splat_files import read_splats
from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, write_curve
from img3d_methods.viewing import splat_view as live_view
from img3d_methods.viewing.browser_view import MIN_SECONDS, SHARE_OF_TIME, BrowserView, open_to_others
from img3d_methods.viewing.view_panel import SECONDS_PER_CURVE, ViewPanel


class WatchedSplats(WatchedModel):
    """A splat model and what its pages are sent."""

    def __init__(self, server: viser.ViserServer, folder: Path) -> None:
        super().__init__(small_model(num_points=3000), server, folder)

    def sent(self) -> torch.Tensor | None:
        """Positions of the splats in the scene, in world units."""
        handle = self.view._splats._handle
        if handle is None:
            return None
        name, buffer = handle._impl.name, self.viewer.viser_server._websock_server._broadcast_buffer
        found: list[Any] = []
        deadline = time.perf_counter() + HANG_SECONDS
        while not found:  # viser's own thread puts it there
            assert time.perf_counter() < deadline, "nothing was sent"
            messages = list(buffer.message_from_id.values())
            found = [m for m in messages if getattr(m, "name", "") == name and hasattr(m, "buffer")]
        (message,) = found
        return torch.from_numpy(message.buffer[:, :3].copy()).view(torch.float32) / 10


@pytest.fixture
def watched(viser_server: viser.ViserServer, tmp_path: Path) -> WatchedSplats:
    return WatchedSplats(viser_server, tmp_path)


class TestFrames:
    def test_the_first_picture_is_rendered_then_the_page_draws(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        assert "rgb" in watched.frame(page, first=True)
        assert watched.frame(page) == "drawn by the page"
        sent = watched.sent()
        assert sent is not None
        assert torch.allclose(sent, watched.model.means.detach(), atol=1e-5)

    def test_nothing_is_streamed_once_the_page_draws(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        page = watched.open_page()
        watched.frame(page, first=True)
        watched.frame(page)
        clock(10)
        watched.frame(page)
        assert page.has_plain_background
        count = len(page.backgrounds)
        for _ in range(5):
            watched.frame(page)
        assert len(page.backgrounds) == count

    def test_a_moving_camera_is_rendered_as_large_as_time_allows_and_the_still_in_full(
        self, watched: WatchedSplats
    ) -> None:
        page = watched.open_page()
        watched.panel._in_browser.value = False
        asked = pinhole_camera()
        moving = watched.frame(page, moving=True)["rgb"]
        assert moving.shape[0] * moving.shape[1] > 2 * int(asked.width * asked.height)
        still = watched.frame(page)["rgb"]
        assert still.shape[:2] == (int(asked.height), int(asked.width))

    def test_a_preview_keeps_the_size_that_the_viewer_asks_for(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.panel._in_browser.value = False
        watched.viewer.render_tab_state.preview_render = True
        asked = pinhole_camera()
        assert watched.frame(page, moving=True)["rgb"].shape[:2] == (int(asked.height), int(asked.width))

    def test_training_need_not_wait_while_the_camera_moves(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        *_, connected = watched.viewer.viser_server._client_connect_cb  # after the one that opens the page at a photo
        page.camera.on_update = lambda moved: setattr(page, "moved", moved)
        connected(page)
        page.moved(page.camera)  # pyright: ignore[reportAttributeAccessIssue]
        assert watched.viewer.last_move_time == 0

    @pytest.mark.parametrize(
        "ask",
        [
            lambda watched: setattr(watched.panel._in_browser, "value", False),
            lambda watched: setattr(watched.viewer.control_panel, "output_render", "depth"),
            lambda watched: setattr(watched.viewer.control_panel, "split", True),
            lambda watched: vars(watched.viewer.render_tab_state).update(
                preview_render=True, preview_camera_type="Fisheye"
            ),
        ],
        ids=["box unchecked", "depth", "split screen", "fisheye preview"],
    )
    def test_the_trainer_renders_what_the_page_cannot(
        self, watched: WatchedSplats, ask: Callable[[WatchedSplats], None]
    ) -> None:
        page = watched.open_page()
        assert watched.frame(page) == "drawn by the page"
        ask(watched)
        assert "depth" in watched.frame(page)
        assert not watched.view._splats.visible

    def test_pages_are_not_blank_while_new_splats_grow(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        page = watched.open_page()
        watched.frame(page, first=True)
        watched.frame(page)
        assert not page.has_plain_background
        watched.frame(page)
        assert not page.has_plain_background
        page.camera.position = (1.0, 0.0, 5.0)
        watched.frame(page)
        assert page.has_plain_background, "a picture from elsewhere must not stay behind the splats"

    def test_evaluation_is_no_business_of_the_viewer(self, watched: WatchedSplats) -> None:
        before = watched.model.get_outputs_for_camera(pinhole_camera())["rgb"]
        watched.open_page()
        watched.panel._size.value = 0.3
        watched.panel._limit.value = 1000
        assert torch.equal(watched.model.get_outputs_for_camera(pinhole_camera())["rgb"], before)


class TestSliders:
    def test_number_of_gaussians_in_the_page(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.panel._limit.value = 1000
        watched.frame(page)
        sent = watched.sent()
        assert sent is not None
        assert len(sent) == 1000

    def test_number_of_gaussians_in_rendered_frames(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.panel._in_browser.value = False
        full = watched.frame(page)["accumulation"]
        watched.panel._limit.value = 1000
        assert watched.frame(page)["accumulation"].sum() < full.sum()

    @pytest.mark.parametrize("slider", ["_size", "_opacity"])
    def test_size_and_opacity_in_rendered_frames(self, watched: WatchedSplats, slider: str) -> None:
        page = watched.open_page()
        watched.panel._in_browser.value = False
        full = watched.frame(page)["accumulation"]
        getattr(watched.panel, slider).value = 0.05
        assert watched.frame(page)["accumulation"].sum() < 0.8 * full.sum()

    def test_the_crop_box_crops_the_page(self, watched: WatchedSplats) -> None:
        box = OrientedBox(torch.eye(3), torch.tensor([0.5, 0.0, 0.0]), torch.ones(3))
        watched.viewer.control_panel.crop_viewport, watched.viewer.control_panel.crop_obb = True, box
        watched.frame(watched.open_page())
        sent = watched.sent()
        assert sent is not None
        assert torch.equal(torch.tensor(len(sent)), box.within(watched.model.means).sum())

    def test_a_change_shows_at_once(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.frame(page)
        first = watched.view._splats._count
        watched.panel._opacity.value = 0.5
        watched.frame(page)
        assert watched.view._splats._count == first + 1


class TestWhileTraining:
    def test_nothing_is_computed_or_sent_without_a_page(
        self, watched: WatchedSplats, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(*args: object) -> None:
            raise AssertionError("computed splats for nobody")

        monkeypatch.setattr(live_view, "browser_splats", never)
        page = watched.open_page()
        watched.view._splats.visible = True
        del watched.viewer.render_statemachines[page.client_id]
        watched.model.step = 5
        watched.view.after_step(5)
        watched.view.after_training(5)

    def test_pages_are_refreshed_as_often_as_five_percent_of_the_time_allow(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        page = watched.open_page()
        watched.frame(page)
        view, count = watched.view, lambda: watched.view._splats._count
        first = count()
        view._refresh_seconds = 1.0
        pause = 2 * view._refresh_seconds / SHARE_OF_TIME  # making them, and sending them to one page
        assert pause > MIN_SECONDS
        watched.model.step = 1
        clock(pause - 1)
        view.after_step(1)
        assert count() == first
        clock(1)
        view.after_step(2)
        assert count() == first + 1

    def test_an_unchanged_model_is_not_sent_again(self, watched: WatchedSplats, clock: Callable[[float], None]) -> None:
        page = watched.open_page()
        watched.frame(page)
        first = watched.view._splats._count
        clock(1000)
        watched.frame(page)
        assert watched.view._splats._count == first

    def test_the_end_is_shown_without_waiting(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.frame(page)
        first = watched.view._splats._count
        watched.model.step = 100
        watched.view.after_training(100)
        assert watched.view._splats._count == first + 1

    def test_a_page_that_closes_while_its_camera_moves_stops_nothing(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        page = watched.open_page()
        watched.frame(page)
        with watched.viewer.viser_server.atomic():  # as Nerfstudio handles a move; viser keeps the lock after an error
            del watched.viewer.render_statemachines[page.client_id]
            watched.viewer.render_statemachines[page.client_id].action(RenderAction("move", None))
        watched.frame(watched.open_page())
        assert watched.sent() is not None

    def test_training_does_not_wait_for_visers_lock(self, watched: WatchedSplats) -> None:
        page = watched.open_page()
        watched.frame(page)
        watched.model.step = 100
        taken, done = threading.Event(), threading.Event()

        def hold() -> None:
            with watched.viewer.viser_server.atomic():
                taken.set()
                done.wait(2 * HANG_SECONDS)

        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait()
        trainer = threading.Thread(target=watched.view.after_training, args=(100,), daemon=True)
        trainer.start()
        trainer.join(HANG_SECONDS)
        stood_still = trainer.is_alive()
        done.set()
        holder.join()
        assert not stood_still


class TestCurves:
    POINTS = [CurvePoint(50 * i, 3.0 * i, 0.3 / (i + 1), 14.0 + i, 1000) for i in range(9)]

    def test_a_run_in_training_is_drawn_as_it_goes(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        watched.open_page()
        curve: list[CurvePoint] = []
        watched.viewer.trainer = SimpleNamespace(curve=curve)
        drawn = []
        for point in self.POINTS:
            curve.append(point)
            clock(1000.0)
            watched.view.after_step(point.step)
            drawn.append(watched.panel._curves.content)
        assert drawn[0] == "", "one point is no curve"
        assert len(set(drawn[1:])) == len(drawn) - 1, "each new point shows"
        assert drawn[-1].count("data:image/svg+xml") == 2
        assert "**Training PSNR** 22.0 dB" in watched.panel._numbers.content
        watched.view.after_step(400)
        assert watched.panel._curves.content == drawn[-1], "nothing new, nothing drawn"

    def test_drawing_takes_a_small_part_of_the_time(
        self, watched: WatchedSplats, clock: Callable[[float], None]
    ) -> None:
        watched.open_page()
        curve = self.POINTS[:2]
        watched.viewer.trainer = SimpleNamespace(curve=curve)
        watched.panel.update(now=True)
        first = watched.panel._curves.content
        curve.append(self.POINTS[2])
        clock(SECONDS_PER_CURVE / 2)
        watched.view.after_step(100)
        assert watched.panel._curves.content == first
        assert "16.0 dB" in watched.panel._numbers.content, "numbers do not wait"

    def test_a_finished_run_is_drawn_from_its_folder(self, watched: WatchedSplats, tmp_path: Path) -> None:
        write_curve(self.POINTS, tmp_path / CURVE_FILE)
        watched.panel.update(now=True)
        assert watched.panel._curves.content.count("data:image/svg+xml") == 2

    def test_a_damaged_table_is_no_reason_not_to_browse(
        self, watched: WatchedSplats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / CURVE_FILE).write_text("spilt coffee")
        watched.panel.update(now=True)
        assert watched.panel._curves.content == ""
        assert CURVE_FILE in "".join(capsys.readouterr())


class TestExport:
    def downloads(self, watched: WatchedSplats) -> dict[str, bytes]:
        page = watched.open_page()
        watched.panel._export(watched.panel._splats, SimpleNamespace(client=page))
        return page.downloads

    @pytest.mark.parametrize("ending", ["ply", "compressed.ply", "splat", "spz", "sog", "glb"])
    def test_splats_are_downloaded_and_the_servers_folders_left_alone(
        self, watched: WatchedSplats, tmp_path: Path, ending: str
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        watched.model.step = 7
        watched.panel._format.value = ending
        ((name, content),) = self.downloads(watched).items()
        assert name == f"splat_step_000007.{ending}"
        assert "Gaussians" in watched.panel._exported.content and name in watched.panel._exported.content
        assert sorted(tmp_path.rglob("*")) == before
        (tmp_path / name).write_bytes(content)
        written, up = read_splats(tmp_path / name)
        assert 2900 < len(written) <= 3000
        assert up == ("z" if ending == "ply" else "-y")

    def test_nothing_to_write_is_said_in_the_panel(self, watched: WatchedSplats) -> None:
        watched.model.opacities.data[:] = -9
        assert not self.downloads(watched)
        assert "no Gaussians" in watched.panel._exported.content

    def test_what_cannot_be_written_is_said_in_the_panel(
        self, watched: WatchedSplats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
        assert not self.downloads(watched)
        assert "No such file" in watched.panel._exported.content

    def test_commands_for_other_files_are_whole(self, watched: WatchedSplats, tmp_path: Path) -> None:
        watched.viewer.log_filename = tmp_path / "a run" / "log.txt"
        for command in watched.panel.commands():
            program, name, option, config, *output = shlex.split(command)
            assert (program, option, config) == (
                *("img3d-export", "--load-config"),
                str(tmp_path / "a run" / "config.yml"),
            )
            assert output[0] == ("--output" if "." in output[1] else "--output-dir")
            assert name in ("mesh", "pointcloud", "video", "report", "viewer", "lod")


def test_a_model_without_a_viewer_renders_all(watched: WatchedSplats) -> None:
    model = small_model(num_points=100)
    assert isinstance(model, Img3dSplatModel)
    assert model.get_outputs_for_camera(pinhole_camera())["rgb"].shape == (40, 48, 3)
    model.live_view.after_step(1)
    model.live_view.after_training(1)


@pytest.mark.parametrize(
    ("config", "who"),
    [
        (ViewerConfig(websocket_host="127.0.0.1"), None),
        (ViewerConfig(websocket_host="0.0.0.0"), "reach this machine"),
        (ViewerConfig(websocket_host="127.0.0.1", make_share_url=True), "knows the shared address"),
    ],
)
def test_who_can_see_the_viewer_is_said(config: ViewerConfig, who: str | None) -> None:
    message = open_to_others(config)
    assert message is None if who is None else message is not None and who in message


def test_a_view_or_panel_that_leaves_something_out_cannot_be_made(watched: WatchedSplats) -> None:
    class HalfAView(BrowserView):
        def doublings(self) -> list[int]:
            return []

    class HalfAPanel(ViewPanel):
        def _model_size(self) -> str:
            return ""

    with pytest.raises(TypeError, match="abstract"):
        HalfAView(watched.model)
    with pytest.raises(TypeError, match="abstract"):
        HalfAPanel(watched.view, "Half")
