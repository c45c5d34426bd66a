# SPDX-License-Identifier: Apache-2.0
"""The viewer's page draws a model's splats itself, so that browsing is smooth however slow this machine renders.

Nerfstudio streams pictures that the trainer renders, which remain for what the page cannot draw: depth, view-dependent
colours. Nothing of Nerfstudio is patched: the viewer sets up every `ViewerControl` that it finds on a model, and the
model asks this one before each frame. Without an open page nothing is computed or sent.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.utils.rich_utils import CONSOLE
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.utils import get_camera
from nerfstudio.viewer.viewer_elements import ViewerControl
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from torch import Tensor

from img3d_dataparsers.errors import warn
from img3d_methods.compat import RenderThreads, leave_fixed_poses_alone
from img3d_methods.live_view_panel import LiveViewPanel
from img3d_methods.render_pace import RenderPace
from img3d_methods.splat_packets import ShownGaussians, SplatNode, browser_splats
from img3d_methods.training_curve import CURVE_FILE, CurvePoint, read_curve
from img3d_methods.training_progress import TrainingProgress

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.data.scene_box import OrientedBox
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.splat_model import Img3dSplatModel

SHARE_OF_TIME = 0.025
"""Most of the training time that refreshing pages may take; an open page may take 5 % with all that comes with it.
Making new splats is timed; sending them to a page happens in viser's thread and takes about as much processor time
again (measured: 0.2 s each for 100,000 Gaussians)."""
LEAST_SECONDS = 4.0
"""Least time between two refreshes."""
HOLD_SECONDS = 3.0
"""How long a refresh keeps a rendered picture behind the splats: viser's page lets new ones grow from
nothing, and would be blank meanwhile."""


@dataclass(frozen=True)
class _Content:
    """What a refresh showed."""

    step: int
    shown: ShownGaussians
    crop: tuple[float, ...] | None


class LiveView(ViewerControl):
    """Sends a model's splats to the viewer's pages, and spares the trainer the frames that they make needless.

    Args:
        model: The model that it belongs to.
    """

    def __init__(self, model: Img3dSplatModel) -> None:
        self.model = model
        self.panel: LiveViewPanel | None = None
        """Its controls; None where there is no viewer."""
        self._content: _Content | None = None
        self._refreshed_at = 0.0
        self._refresh_seconds = 0.0
        self._backdrops: dict[int, tuple[float, ...]] = {}
        self._hold_until = 0.0
        self._hold_timer: threading.Timer | None = None
        self._adjusting_thread: int | None = None
        self._pace = RenderPace()
        self.progress = TrainingProgress()

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        if message := open_to_others(viewer.config):
            CONSOLE.print(message, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
        viewer.render_statemachines = RenderThreads(viewer.render_statemachines)
        leave_fixed_poses_alone(viewer, self.model.camera_optimizer)
        self._splats = SplatNode(viewer.viser_server)
        viewer.viser_server.on_client_connect(self._let_training_go_on)
        self.panel = LiveViewPanel(self)

    # -------------------------------------------------------------------------------------------------- frames

    @contextmanager
    def frame(self, camera: Cameras) -> Generator[None]:
        """Goes around each render of the model for a camera; the viewer's renders follow the sliders.

        Args:
            camera: While the viewer's camera moves it is changed to as many pixels as can be rendered smoothly:
                Nerfstudio asks for 30 rows in `ns-viewer`, whatever the machine.

        Raises:
            IOChangeException: The viewer asked, and the page draws this itself. (So Nerfstudio's viewer learns that
                there is no new picture.)
        """
        thread = threading.current_thread()
        ours = self._adjusting_thread == threading.get_ident()
        if self.panel is None or ours or not isinstance(thread, RenderStateMachine):
            yield
            return
        in_browser = self._drawn_in_browser()
        with _uninterrupted():
            self._splats.visible = in_browser
        # A page's first picture is rendered here: it comes sooner, and tells the page's menu what can be rendered.
        if in_browser and thread.output_keys:
            with _uninterrupted():
                self._refresh_if_changed()
                self._send_backdrop(thread)
            raise IOChangeException
        self._backdrops[thread.client.client_id] = _pose(thread.client)
        is_draft = thread.state != "high" and not self.viewer.render_tab_state.preview_render
        if is_draft:
            self._pace.resize(camera, thread.client.camera.aspect, self.viewer.control_panel.max_res)
        began = time.perf_counter()
        with self.adjusted():
            yield
        if is_draft:
            self._pace.record(int(camera.width * camera.height), time.perf_counter() - began)

    def _let_training_go_on(self, client: Any) -> None:
        """Training need not stop while a page's camera moves, as Nerfstudio has it: frames come in between its steps.

        Comes after the viewer's own handler, which notes when the camera moved.
        """

        @client.camera.on_update
        def _(_: Any) -> None:
            self.viewer.last_move_time = 0

    @contextmanager
    def adjusted(self) -> Generator[None]:
        """What this thread renders follows the viewer's sliders."""
        self._adjusting_thread = threading.get_ident()
        try:
            yield
        finally:
            self._adjusting_thread = None

    def shown(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The Gaussians to render: all, or in the viewer's frames those that its sliders leave."""
        if self.panel is None or self._adjusting_thread != threading.get_ident():
            return params
        return self.panel.shown.of(params)

    def _drawn_in_browser(self) -> bool:
        """Whether the page is asked to draw, and for something that it can."""
        assert self.panel is not None
        control, preview = self.viewer.control_panel, self.viewer.render_tab_state
        return (
            self.panel.draws_in_browser
            and control.output_render in ("rgb", "not set")
            and not control.split
            and not (preview.preview_render and preview.preview_camera_type != "Perspective")
        )

    def _send_backdrop(self, thread: RenderStateMachine) -> None:
        """One picture of one colour, without depth, behind the splats: nothing more is streamed."""
        client, behind = thread.client, self._backdrops.get(thread.client.client_id)
        if time.monotonic() < self._hold_until and behind == _pose(client):
            return
        color = tuple((self.model._get_background_color() * 255).round().int().tolist())
        if behind != color:
            self._backdrops[client.client_id] = color
            client.scene.set_background_image(np.full((8, 8, 3), color, dtype=np.uint8), format="png")
            self.viewer.stats_markdown.content = self.viewer.make_stats_markdown(None, "the browser's")

    def _hold_pictures(self) -> None:
        """Put what each page sees behind its splats for a while."""
        for thread in list(self.viewer.render_statemachines.values()):
            if thread.output_keys:
                pose = _pose(thread.client)
                picture = self._render(thread.client, min(self.viewer.control_panel.max_res, 512))
                thread.client.scene.set_background_image(picture.numpy(), format="jpeg", jpeg_quality=75)
                self._backdrops[thread.client.client_id] = pose
        self._hold_until = time.monotonic() + HOLD_SECONDS
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = threading.Timer(HOLD_SECONDS + 0.1, self.rerender)
        self._hold_timer.daemon = True
        self._hold_timer.start()

    def rerender(self) -> None:
        """Have every open page's frame made again."""
        for client_id, client in self.viewer.viser_server.get_clients().items():
            action = RenderAction("move", self.viewer.get_camera_state(client))
            self.viewer.render_statemachines[client_id].action(action)

    # ------------------------------------------------------------------------------------------------- refreshes

    def training_callbacks(self, max_steps: int) -> list[TrainingCallback]:
        """What the trainer has to call, in a run of `max_steps`."""
        self.progress.begin(max_steps, self.model.schedule.downscale_factor)
        return [
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.after_step),
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self.after_training),
        ]

    def after_step(self, step: int) -> None:
        """Refresh what open pages show, if it is time. The trainer holds its lock."""
        self.progress.record(step)
        if self.panel is None or not self.viewer.render_statemachines:
            return
        self.panel.update()
        if self._splats.visible:
            self._refresh_if_changed()

    def after_training(self, step: int) -> None:
        """Show the result."""
        if self.panel is None or not self.viewer.render_statemachines:
            return
        with self.lock():
            self.panel.update(now=True)
            self._refreshed_at = -float("inf")
            if self._splats.visible:
                self._refresh_if_changed()
        self.rerender()

    def curve(self) -> list[CurvePoint]:
        """How training goes, or went: of the trainer that runs, or as the run that is looked at has it on disk."""
        if self.viewer.trainer is not None:
            return list(getattr(self.viewer.trainer, "curve", []))  # Nerfstudio's own trainer keeps none
        try:
            return read_curve(self.viewer.log_filename.parent / CURVE_FILE)
        except ValueError as error:
            warn(f"{error}.")
            return []

    def lock(self) -> Any:
        """What to hold while reading or rendering the model outside the training loop."""
        return self.viewer.train_lock or nullcontext()

    def crop_box(self) -> OrientedBox | None:
        """The viewer's crop box, if it is on."""
        control = self.viewer.control_panel
        return control.crop_obb if control.crop_viewport else None

    def gaussians(self) -> dict[str, Tensor]:
        """The model's parameters inside the viewer's crop box, without gradients."""
        params = {name: param.detach() for name, param in self.model.gauss_params.items()}
        box = self.crop_box()
        if box is not None:
            inside = box.within(params["means"])
            params = {name: value[inside] for name, value in params.items()}
        return params

    def _refresh_if_changed(self) -> None:
        assert self.panel is not None
        box = self.crop_box()
        crop = None if box is None else tuple(torch.cat([box.R.flatten(), box.T, box.S]).tolist())
        content, old = _Content(self.model.step, self.panel.shown, crop), self._content
        if content == old:
            return
        only_trained = old is not None and (content.shown, content.crop) == (old.shown, old.crop)
        cost = self._refresh_seconds * (1 + len(self.viewer.render_statemachines))
        pause = max(LEAST_SECONDS, cost / SHARE_OF_TIME)
        if only_trained and time.monotonic() < self._refreshed_at + pause:
            return
        began = time.perf_counter()
        self._hold_pictures()
        params = content.shown.of(self.gaussians())
        self._splats.replace(browser_splats(params, self.model.config.sh_degree, self.page_units()))
        self._content, self._refreshed_at = content, time.monotonic()
        self._refresh_seconds = time.perf_counter() - began
        self.panel.sent(len(params["means"]), self._splats.bytes_sent)

    def page_units(self) -> float:
        """Units of the viewer's page in one world unit."""
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO  # its module imports models

        return VISER_NERFSTUDIO_SCALE_RATIO

    def picture(self, client: Any, height: int) -> Tensor:
        """What a page looks at, rendered here with all that the model has: uint8 `[height, W, 3]`."""
        with self.lock():
            return self._render(client, height)

    def _render(self, client: Any, height: int) -> Tensor:
        state = self.viewer.get_camera_state(client)
        camera = get_camera(state, height, round(height * state.aspect)).to(self.model.device)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), self.adjusted():
                rgb = self.model.get_outputs_for_camera(camera, obb_box=self.crop_box())["rgb"]
        finally:
            self.model.train(was_training)
        return (rgb * 255).round().to(torch.uint8).cpu()


def open_to_others(config: ViewerConfig) -> str | None:
    """Who else can see the viewer, in one line; None if nobody on another machine can."""
    who = []
    if config.websocket_host not in ("127.0.0.1", "localhost", "::1"):
        who.append("everybody who can reach this machine over the network")
    if config.make_share_url:
        who.append("everybody who knows the shared address")
    if not who:
        return None
    return f"The viewer is open to {' and '.join(who)}: they see the photos, and can pause training and export."


def _pose(client: Any) -> tuple[float, ...]:
    """Where a page's camera is."""
    return (*client.camera.position, *client.camera.wxyz)


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Keep Nerfstudio from breaking off a render in the midst of this, which it does from a trace function."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)
