# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's real viewer over a model of ours: its controls say what is so, and pictures are what it streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_lines import free_port
from gaussian_scenes import small_model
from hang_limit import HANG_SECONDS
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer import Viewer

from img3d_methods.compat import tab_of_page
from img3d_methods.viewing.viewer_controls import training_is_over

STEP = 299


class Page:
    """A page that looks at the origin, and keeps what it is sent."""

    client_id = 0

    def __init__(self) -> None:
        self.camera = SimpleNamespace(
            position=np.array([0.0, 0.0, 40.0]), wxyz=np.array([0.0, 1.0, 0.0, 0.0]), fov=0.8, aspect=1.28
        )
        self.scene = self
        self.picture: Any = None

    def set_background_image(self, picture: Any, **_: Any) -> None:
        self.picture = picture


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Of a finished run, as ns-viewer makes it."""
    folder = tmp_path_factory.mktemp("finished")
    model = small_model(num_points=300)
    model.step = STEP
    made = Viewer(
        ViewerConfig(websocket_host="127.0.0.1", websocket_port=free_port()),
        log_filename=folder / "run" / "log.txt",
        datapath=folder,
        pipeline=SimpleNamespace(model=model, datamanager=SimpleNamespace(includes_time=False)),  # pyright: ignore
        train_lock=threading.Lock(),  # pyright: ignore[reportArgumentType]
    )
    yield made
    made.viser_server.stop()


@pytest.fixture
def controls(viewer: Viewer) -> Iterator[Any]:
    """The viewer's panel, put back afterwards."""
    panel = viewer.control_panel
    yield panel
    panel._output_render.value, panel._split.value, panel.crop_viewport = "rgb", False, False
    viewer.render_tab_state.preview_render = False


def streamed(viewer: Viewer) -> Any:
    """What Nerfstudio sends a page whose camera rests."""
    page = Page()
    thread = RenderStateMachine(viewer, 10.0, page)  # pyright: ignore[reportArgumentType]
    thread.state = "high"
    thread._send_output_to_viewer(thread._render_img(viewer.get_camera_state(page)))  # pyright: ignore
    return page.picture


def test_nothing_of_training_is_left_in_a_finished_run(viewer: Viewer) -> None:
    assert not viewer.pause_train.visible and not viewer.resume_train.visible
    panel: Any = viewer.control_panel
    assert not panel._train_speed.gui_handle.visible and not panel._train_util.gui_handle.visible
    assert viewer.stats_markdown.content.startswith(f"Step: {STEP + 1} ")


def test_the_step_is_shown_at_the_end_of_training_too(viewer: Viewer) -> None:
    training_is_over(viewer, 700)
    assert viewer.stats_markdown.content.startswith("Step: 700 ")


def test_there_is_one_export_tab_and_it_is_ours(viewer: Viewer) -> None:
    export: Any = tab_of_page(viewer.viser_server, "Export")
    assert export._parent._labels == ["Splats", "Export"]
    contents = [getattr(child, "content", "") for child in export._children.values()]
    assert not any("not currently supported" in content for content in contents)
    control: Any = tab_of_page(viewer.viser_server, "Control")
    assert control._parent._labels == ["Control", "Render"]
    with pytest.raises(LookupError):
        tab_of_page(viewer.viser_server, "Import")


class TestPicture:
    @pytest.mark.parametrize("output", ["rgb", "depth", "accumulation"])
    def test_it_is_what_the_page_is_sent(self, viewer: Viewer, controls: Any, output: str) -> None:
        streamed(viewer)  # tells the panel what there is
        controls._output_render.value = output
        sent = streamed(viewer)
        taken = viewer.pipeline.model.live_view.picture(Page(), sent.shape[0])
        assert taken.shape == sent.shape
        assert np.abs(taken.astype(int) - sent).max() <= 1
        assert sent.std() > 5

    def test_a_split_screen(self, viewer: Viewer, controls: Any) -> None:
        streamed(viewer)
        controls._split.value = True
        assert controls.split_output_render != "gl_z_buf_depth"
        controls._split_output_render.value = "accumulation"
        sent = streamed(viewer)
        taken = viewer.pipeline.model.live_view.picture(Page(), sent.shape[0])
        assert np.abs(taken.astype(int) - sent).max() <= 1

    def test_the_crop_box_and_the_sliders(self, viewer: Viewer, controls: Any) -> None:
        view: Any = viewer.pipeline.model.live_view
        whole = view.picture(Page(), 200)
        controls.crop_viewport, controls._crop_scale.value = True, (0.3, 0.3, 0.3)
        assert view.picture(Page(), 200).std() < 0.8 * whole.std()
        controls.crop_viewport = False
        view.panel._opacity.value = 0.05
        faint = view.picture(Page(), 200)
        view.panel._opacity.value = 1.0
        assert faint.std() < 0.8 * whole.std()

    def test_its_size_is_the_panels_and_the_page_keeps_its_own(self, viewer: Viewer) -> None:
        viewer.stats_markdown.content = "Step: 1  \nResolution: 640x512px"
        assert viewer.pipeline.model.live_view.picture(Page(), 100).shape == (100, 128, 3)
        assert "640x512px" in viewer.stats_markdown.content

    def test_a_preview_has_its_own_shape(self, viewer: Viewer, controls: Any) -> None:
        state = viewer.render_tab_state
        state.preview_render, state.preview_fov, state.preview_aspect = True, 0.8, 2.0
        assert viewer.pipeline.model.live_view.picture(Page(), 100).shape == (100, 200, 3)


def test_a_run_in_training_keeps_its_controls_until_the_end(viewer: Viewer) -> None:
    view: Any = viewer.pipeline.model.live_view
    viewer.pause_train.visible = True
    view.after_step(5)
    assert viewer.pause_train.visible
    view.after_training(5)
    assert not viewer.pause_train.visible
    assert torch.is_grad_enabled()


class TestCropBox:
    """Nerfstudio's box, drawn, with a corner to drag."""

    @pytest.fixture
    def box(self, viewer: Viewer, controls: Any) -> Iterator[Any]:
        model: Any = viewer.pipeline.model
        panel, panel._box = model.live_view.panel, None
        controls._crop_center.value, controls._crop_scale.value = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        panel._crop(True)
        yield panel._box
        panel._crop(False)

    def test_it_begins_around_what_is_there(self, viewer: Viewer, controls: Any, box: Any) -> None:
        model: Any = viewer.pipeline.model
        means = model.means.detach()
        share = controls.crop_obb.within(means).float().mean()
        assert controls.crop_viewport and 0.3 < share < 0.95
        assert np.allclose(box._corner.position, np.array(controls._crop_scale.value) * 5, atol=2e-3)
        assert controls._crop_handle.visible and controls._crop_center.gui_handle.visible

    def test_its_corner_resizes_it_about_its_centre(self, viewer: Viewer, controls: Any, box: Any) -> None:
        before = controls._crop_center.value
        drag_corner(box, (4.0, -2.0, 0.0))
        assert np.allclose(controls._crop_scale.value, [0.8, 0.4, 1e-3], atol=1e-3)
        assert controls._crop_center.value == before

    def test_what_is_exported_is_inside(self, viewer: Viewer, controls: Any, box: Any) -> None:
        drag_corner(box, (3.0, 3.0, 3.0))
        model: Any = viewer.pipeline.model
        view = model.live_view
        inside = view.gaussians()["means"]
        assert 0 < len(inside) < view.model.num_points
        assert len(inside) == int(controls.crop_obb.within(view.model.means.detach()).sum())

    def test_numbers_move_the_corner(self, controls: Any, box: Any) -> None:
        controls._crop_scale.value = (2.0, 1.0, 0.5)
        wait_until(lambda: np.allclose(box._corner.position, [10, 5, 2.5]))

    def test_nerfstudios_own_box_and_ours_agree(self, viewer: Viewer, controls: Any, box: Any) -> None:
        model: Any = viewer.pipeline.model
        panel = model.live_view.panel
        wait_until(lambda: panel._crop_switch.value)
        controls.crop_viewport = False
        wait_until(lambda: not panel._crop_switch.value)


def drag_corner(box: Any, position: tuple[float, float, float]) -> None:
    """As viser does where a page says so."""
    box._corner._impl.position = np.array(position)
    for callback in box._corner._impl_aux.update_cb:
        callback(box._corner)


def wait_until(holds: Callable[[], bool]) -> None:
    """Viser's callbacks have threads of their own."""
    deadline = time.monotonic() + HANG_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestCleaning:
    def test_it_hides_floaters_in_pictures_and_downloads_until_undone(self, viewer: Viewer, controls: Any) -> None:
        model: Any = viewer.pipeline.model
        view = model.live_view
        panel = view.panel
        means = model.means.data.clone()
        model.means.data[:3] = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
        assert panel._clean.visible and not panel._undo.visible
        try:
            panel._hide_unwanted()
            assert "Cleaned away" in panel._removed.content and "isolated" in panel._removed.content
            left = view.gaussians()["means"]
            assert len(left) <= model.num_points - 3 and left.abs().max() < 8
            assert not panel._clean.visible and panel._undo.visible
            with view.adjusted():
                shown = view.without_cleaned({"means": model.means})
            assert len(shown["means"]) == len(left)
            assert len(view.without_cleaned({"means": model.means})["means"]) == model.num_points, "evaluation"
            panel._show_all()
            assert len(view.gaussians()["means"]) == model.num_points
            assert panel._clean.visible and not panel._clean.disabled and not panel._undo.visible
        finally:
            view.undo_cleaning()
            model.means.data = means

    def test_it_is_offered_when_training_is_over(self, viewer: Viewer) -> None:
        model: Any = viewer.pipeline.model
        view = model.live_view
        view.panel._clean.visible = False
        view.after_training(5)
        assert view.panel._clean.visible
