# SPDX-License-Identifier: Apache-2.0
"""Base class for what a model shows in the viewer's pages: content that the page draws itself, and pictures rendered
here.

Nerfstudio streams pictures that the trainer renders. This needs no patch: the viewer calls `_setup` of every
`ViewerControl` that it finds on a model, and the model calls `frame` around each render. While no page is open,
nothing is computed or sent.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.viewer.render_state_machine import RenderAction, RenderStateMachine
from nerfstudio.viewer.viewer_elements import ViewerControl
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from torch import Tensor

from img3d_base.console import print_line
from img3d_base.errors import warn
from img3d_methods.compat import RenderThreads, leave_fixed_poses_alone
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, read_curve
from img3d_methods.training.progress import TrainingProgress
from img3d_methods.viewing.initial_view import open_at, view_of_photo
from img3d_methods.viewing.render_pace import RenderPace
from img3d_methods.viewing.view_picture import ViewPicture
from img3d_methods.viewing.viewer_controls import put_controls_right, training_is_over

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.configs.base_config import ViewerConfig
    from nerfstudio.data.scene_box import OrientedBox
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.viewing.viewed_model import ViewedModel

SHARE_OF_TIME = 0.025
"""Maximum fraction of the training time for refreshing pages; in total an open page may take 5 %. Making new content
is measured; sending it to a page happens in viser's thread and takes about as much processor time again (measured:
0.2 s each for 100,000 Gaussians)."""
MIN_SECONDS = 4.0
"""Minimum time between two refreshes."""
BACKDROP_AGAIN_SECONDS = (0.5, 2.0, 8.0)
"""When a backdrop is sent again. A page decodes the pictures it gets side by side and shows the one that is ready last:
on a busy machine that is a larger picture sent before the backdrop."""
VIEWER_GREY = (0.1490, 0.1647, 0.2157)
"""Viser's own background colour."""


@dataclass(frozen=True)
class _Content:
    """What the last refresh showed."""

    step: int
    shown: Any
    """What the panel sets."""
    crop: tuple[float, ...] | None


class BrowserView(ViewerControl, ABC):
    """Decides for each frame whether the page draws it or it is rendered here.

    Args:
        model: The model that is shown.
    """

    frames_per_second = 20.0
    """Target for pictures that are rendered here while the viewer's camera moves."""

    def __init__(self, model: ViewedModel) -> None:
        self.model = model
        self.panel: Any = None
        """Its controls, a `ViewPanel`; None without a viewer."""
        self._content: _Content | None = None
        self._refreshed_at = 0.0
        self._refresh_seconds = 0.0
        self._backdrops: dict[int, tuple[float, ...]] = {}
        self._adjusting_threads: set[int] = set()
        self._pace = RenderPace(self.frames_per_second)
        self.progress = TrainingProgress()

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        if message := open_to_others(viewer.config):
            print_line(message, "bold yellow")
        viewer.render_statemachines = RenderThreads(viewer.render_statemachines)
        camera_optimizer = getattr(self.model, "camera_optimizer", None)
        if camera_optimizer is not None:
            leave_fixed_poses_alone(viewer, camera_optimizer)
        viewer.viser_server.on_client_connect(self._open_at_photo)
        viewer.viser_server.on_client_connect(self._let_training_go_on)
        put_controls_right(viewer)
        if viewer.trainer is None:
            training_is_over(viewer, self.model.step + 1)

    # ------------------------------------------------------------------------------------- what subclasses define

    @abstractmethod
    def doublings(self) -> Sequence[int]:
        """Steps from which training images have twice the size."""

    @abstractmethod
    def _drawn_by_page(self, thread: RenderStateMachine) -> bool:
        """Whether the page draws this frame. Called before each frame; also shows or hides what the page draws."""

    def _after_still(self, client: Any) -> None:
        """Called when a page's picture at rest has been rendered and will be sent."""

    @abstractmethod
    def _shows(self) -> bool:
        """Whether pages may draw the content themselves now."""

    @abstractmethod
    def _send(self) -> None:
        """Sends new content to the pages."""

    @abstractmethod
    def _background(self) -> Float[Tensor, "3"]:
        """The background colour of the page's content, in [0, 1]."""

    # -------------------------------------------------------------------------------------------------- frames

    @contextmanager
    def frame(self, camera: Cameras) -> Generator[None]:
        """Context around each render of the model for a camera; the viewer's renders follow the panel's settings.

        Args:
            camera: The camera to render. While the viewer's camera moves, it is resized to as many pixels as can be
                rendered smoothly: `ns-viewer` asks for 30 rows, whatever the machine.

        Raises:
            IOChangeException: The page draws this frame itself. (This tells Nerfstudio's viewer that there is no new
                picture.)
        """
        thread = threading.current_thread()
        ours = threading.get_ident() in self._adjusting_threads
        if self.panel is None or ours or not isinstance(thread, RenderStateMachine):
            yield
            return
        with _uninterrupted():
            drawn_by_page = self._drawn_by_page(thread)
        if drawn_by_page:
            with _uninterrupted():
                self._refresh_if_changed()
                self._send_backdrop(thread)
            raise IOChangeException
        self._backdrops[thread.client.client_id] = pose_of(thread.client)
        is_still = thread.state == "high"
        is_draft = not is_still and not self.viewer.render_tab_state.preview_render
        if is_draft:
            self._pace.resize(camera, thread.client.camera.aspect, self.viewer.control_panel.max_res)
        began = time.perf_counter()
        with self.adjusted():
            yield
        if is_draft:
            self._pace.record(int(camera.width * camera.height), time.perf_counter() - began)
        if is_still:
            with _uninterrupted():
                self._after_still(thread.client)

    def _open_at_photo(self, client: Any) -> None:
        """Lets a page begin at a photo's view, where Nerfstudio leaves viser's own, which may show anything."""
        dataset = self.viewer.pipeline.datamanager.train_dataset
        if dataset is not None:
            open_at(view_of_photo(dataset.cameras), client, self.page_units())

    def _let_training_go_on(self, client: Any) -> None:
        """Keeps training running while a page's camera moves, where Nerfstudio would pause it: frames are rendered
        between steps.

        Runs after the viewer's own handler, which notes when the camera moved.
        """

        @client.camera.on_update
        def _(_: Any) -> None:
            self.viewer.last_move_time = 0

    @contextmanager
    def adjusted(self) -> Generator[None]:
        """Makes this thread's renders follow the panel's settings."""
        self._adjusting_threads.add(threading.get_ident())
        try:
            yield
        finally:
            self._adjusting_threads.discard(threading.get_ident())

    def page_can_draw(self) -> bool:
        """Whether the viewer asks for colours from one perspective camera, which pages can draw."""
        control, preview = self.viewer.control_panel, self.viewer.render_tab_state
        return (
            control.output_render in ("rgb", "not set")
            and not control.split
            and not (preview.preview_render and preview.preview_camera_type != "Perspective")
        )

    def _send_backdrop(self, thread: RenderStateMachine) -> None:
        """Sends a small picture of the background colour, without depth, behind what the page draws; nothing else is
        streamed."""
        client = thread.client
        color = tuple((self._background() * 255).round().int().tolist())
        if self._backdrops.get(client.client_id) == color:
            return
        self._backdrops[client.client_id] = color

        def send() -> None:
            if self._backdrops.get(client.client_id) == color:
                client.scene.set_background_image(np.full((8, 8, 3), color, dtype=np.uint8), format="png")

        send()
        for seconds in BACKDROP_AGAIN_SECONDS:
            again = threading.Timer(seconds, send)
            again.daemon = True
            again.start()
        self.viewer.stats_markdown.content = self.viewer.make_stats_markdown(None, "the browser's")

    def rerender(self) -> None:
        """Makes the frame of every open page again."""
        for client_id, client in self.viewer.viser_server.get_clients().items():
            action = RenderAction("move", self.viewer.get_camera_state(client))
            self.viewer.render_statemachines[client_id].action(action)

    # ------------------------------------------------------------------------------------------------- refreshes

    def training_callbacks(self) -> list[TrainingCallback]:
        """The callbacks for the trainer."""
        return [
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.after_step),
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], self.after_training),
        ]

    def after_step(self, step: int) -> None:
        """Refreshes open pages if it is time. The trainer holds its lock."""
        self.progress.record(step)
        if self.panel is None or not self.viewer.render_statemachines:
            return
        self.panel.update()
        if self._shows():
            self._refresh_if_changed()

    def after_training(self, step: int) -> None:
        """Shows the result of training."""
        if self.panel is None:
            return
        training_is_over(self.viewer, step + 1)
        if not self.viewer.render_statemachines:
            return
        with self.lock():
            self.panel.update(now=True)
            self._refreshed_at = -float("inf")
            if self._shows():
                self._refresh_if_changed()
        self.rerender()

    def curve(self) -> list[CurvePoint]:
        """The training curve: that of the running trainer, or the one on disk for a finished run."""
        if self.viewer.trainer is not None:
            return list(getattr(self.viewer.trainer, "curve", []))  # Nerfstudio's own trainer keeps none
        try:
            return read_curve(self.viewer.log_filename.parent / CURVE_FILE)
        except ValueError as error:
            warn(f"{error}.")
            return []

    def lock(self) -> Any:
        """The lock to hold while reading or rendering the model outside the training loop."""
        return self.viewer.train_lock or nullcontext()

    def crop_box(self) -> OrientedBox | None:
        """The viewer's crop box, if enabled."""
        control = self.viewer.control_panel
        return control.crop_obb if control.crop_viewport else None

    def _settings(self) -> Any:
        """What the panel says is to be seen; compared with what pages have."""
        return self.panel.shown

    def _refresh_if_changed(self) -> None:
        box = self.crop_box()
        crop = None if box is None else tuple(torch.cat([box.R.flatten(), box.T, box.S]).tolist())
        content, old = _Content(self.model.step, self._settings(), crop), self._content
        if content == old:
            return
        cost = self._refresh_seconds * (1 + len(self.viewer.render_statemachines))
        pause = max(MIN_SECONDS, cost / SHARE_OF_TIME)
        only_trained = old is not None and (content.shown, content.crop) == (old.shown, old.crop)
        if only_trained and time.monotonic() < self._refreshed_at + pause:
            return
        began = time.perf_counter()
        self._send()
        self._content, self._refreshed_at = content, time.monotonic()
        self._refresh_seconds = time.perf_counter() - began

    def page_units(self) -> float:
        """Units of the viewer's page per world unit."""
        from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO  # its module imports models

        return VISER_NERFSTUDIO_SCALE_RATIO

    def picture(self, client: Any, height: int) -> UInt8[np.ndarray, "H W 3"]:
        """The current view of a page, rendered here `height` pixels high."""
        with self.adjusted():
            return ViewPicture(self.viewer, client, height).take()

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """Puts the model in evaluation mode, and restores its mode afterwards."""
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(was_training)


def open_to_others(config: ViewerConfig) -> str | None:
    """A message about who else can see the viewer; None if nobody on another machine can."""
    who = []
    if config.websocket_host not in ("127.0.0.1", "localhost", "::1"):
        who.append("everyone who can reach this machine over the network")
    if config.make_share_url:
        who.append("everyone who knows the shared address")
    if not who:
        return None
    return f"The viewer is open to {' and '.join(who)}: they see the photos, and can pause training and export."


def pose_of(client: Any) -> tuple[float, ...]:
    """The pose of a page's camera."""
    return (*client.camera.position, *client.camera.wxyz)


@contextmanager
def _uninterrupted() -> Generator[None]:
    """Keeps Nerfstudio from aborting a render in this block, which it does from a trace function."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(trace)
