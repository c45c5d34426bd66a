# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's real viewer over a model of ours: its controls say what is so, and pictures are what it streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_lines import free_port
from gaussian_scenes import small_model
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
