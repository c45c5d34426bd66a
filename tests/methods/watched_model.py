# SPDX-License-Identifier: Apache-2.0
"""A model with Nerfstudio's viewer, as far as our views look at it: pages and their frames without a browser."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import viser
from gaussian_scenes import pinhole_camera
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import CameraState
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException


class Page:
    """What the viewer knows of an open page."""

    def __init__(self, client_id: int) -> None:
        self.client_id = client_id
        self.camera = SimpleNamespace(position=(0.0, 0.0, 5.0), wxyz=(1.0, 0.0, 0.0, 0.0), aspect=1.5)
        self.scene = self
        self.backgrounds: list[Any] = []
        self.points: list[SimpleNamespace] = []
        self.downloads: dict[str, bytes] = {}

    def set_background_image(self, image: Any, **options: Any) -> None:
        assert options.get("depth") is None, "a background with depth would hide what the page draws"
        self.backgrounds.append(image)

    def add_point_cloud(self, name: str, points: Any, colors: Any, **options: Any) -> SimpleNamespace:
        self.points.append(SimpleNamespace(name=name, points=points, colors=colors, visible=True, **options))
        return self.points[-1]

    def send_file_download(self, name: str, content: bytes) -> None:
        self.downloads[name] = content

    @property
    def has_plain_background(self) -> bool:
        image = self.backgrounds[-1]
        return bool((image == image[0, 0]).all())


class RenderThread(RenderStateMachine):
    """Nerfstudio's render thread of a page, that renders one frame when told to."""

    def __init__(self, viewer: Any, page: Page) -> None:
        super().__init__(viewer, 10.0, page)  # pyright: ignore[reportArgumentType]
        self.result: Any = None

    def run(self) -> None:
        with self.viewer.train_lock:  # pyright: ignore[reportOptionalContextManager]
            try:
                self.result = self.viewer.model.get_outputs_for_camera(pinhole_camera())  # pyright: ignore
            except IOChangeException:
                self.result = "drawn by the page"


class Control:
    """One of Nerfstudio's own."""

    visible = True

    def __init__(self) -> None:
        self.gui_handle = SimpleNamespace(on_update=lambda handler: handler)

    def set_hidden(self, hidden: bool) -> None:
        self.visible = not hidden


class WatchedModel:
    """A model with Nerfstudio's viewer over a real viser server.

    Args:
        model: With a `live_view`.
        server: Of its own.
        folder: Of the run.
    """

    def __init__(self, model: Any, server: viser.ViserServer, folder: Path) -> None:
        self.model = model
        self.pages: dict[int, Page] = {}
        state = CameraState(fov=0.8, aspect=1.5, c2w=torch.eye(4)[:3], camera_type=CameraType.PERSPECTIVE)
        self.viewer: Any = SimpleNamespace(
            model=self.model,
            config=ViewerConfig(websocket_host="127.0.0.1"),
            viser_server=server,
            stats_markdown=server.gui.add_markdown("Step: 0  \nResolution: 0x0px"),
            make_stats_markdown=lambda step, resolution: f"Step: 0  \nResolution: {resolution}",
            control_panel=SimpleNamespace(
                **{"output_render": "rgb", "split": False, "crop_viewport": False, "crop_obb": None, "max_res": 512},
                **{"_train_speed": Control(), "_train_util": Control(), "_crop_viewport": Control()},
            ),
            pause_train=Control(),
            resume_train=Control(),
            update_step=lambda step: None,
            render_tab_state=SimpleNamespace(preview_render=False, preview_camera_type="Perspective"),
            render_statemachines={},
            trainer=None,
            train_lock=threading.Lock(),
            last_move_time=time.time(),
            log_filename=folder / "viewer_log_filename.txt",
            get_camera_state=lambda page: state,
        )
        self.view = self.model.live_view
        with patch("img3d_methods.viewing.browser_view.put_controls_right"):  # test_viewer_controls.py has them
            self.view._setup(self.viewer)

    def open_page(self) -> Page:
        page = Page(len(self.pages))
        self.pages[page.client_id] = page
        self.viewer.render_statemachines[page.client_id] = RenderThread(self.viewer, page)
        return page

    def frame(self, page: Page, first: bool = False, moving: bool = False) -> Any:
        """What the viewer gets when it asks for a frame: outputs, or "drawn by the page"."""
        thread = RenderThread(self.viewer, page)
        thread.state = "low_move" if moving else "high"
        thread.output_keys = {} if first else {"rgb"}  # pyright: ignore[reportAttributeAccessIssue]
        thread.start()
        thread.join()
        self.viewer.render_statemachines[page.client_id].output_keys = {"rgb"}
        assert thread.result is not None
        return thread.result

    @property
    def panel(self) -> Any:
        return self.view.panel
