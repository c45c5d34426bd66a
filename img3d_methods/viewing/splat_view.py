# SPDX-License-Identifier: Apache-2.0
"""Shows splats in the viewer: the page draws them, so that browsing is smooth however slowly this machine renders.

The trainer still renders what the page cannot draw: depth and view-dependent colours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import get_camera
from torch import Tensor

from img3d_assets.gaussians import MIN_OPACITY_LOGIT, gaussians_of_parameters
from img3d_assets.splat_editing.cleaning import Removed, unwanted
from img3d_methods.viewing.browser_view import BrowserView, pose_of
from img3d_methods.viewing.splat_packets import SplatNode, browser_splats
from img3d_methods.viewing.splat_panel import LiveViewPanel
from img3d_methods.viewing.viewpoints import viewpoints_of

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.viewing.viewed_model import ViewedSplatModel

HOLD_SECONDS = 3.0
"""How long a refresh keeps a rendered picture behind the splats: viser's page lets new splats grow from nothing, and
would be blank meanwhile."""


class LiveView(BrowserView):
    """Sends a model's splats to the viewer's pages, and spares the trainer the frames that this makes unnecessary.

    Args:
        model: The model that is shown.
    """

    model: ViewedSplatModel
    panel: LiveViewPanel | None

    def __init__(self, model: ViewedSplatModel) -> None:
        super().__init__(model)
        self._hold_until = 0.0
        self._hold_timer: threading.Timer | None = None
        self._kept: Bool[Tensor, "N"] | None = None

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        self._splats = SplatNode(viewer.viser_server)
        self.panel = LiveViewPanel(self)

    def doublings(self) -> Sequence[int]:
        return self.model.schedule.doublings

    def shown(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The Gaussians to render: all of them, or, in the viewer's frames, those that its sliders select."""
        if self.panel is None or threading.get_ident() not in self._adjusting_threads:
            return params
        return self.panel.shown.of(params)

    def without_cleaned(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """All Gaussians, or in the viewer's frames those that cleaning has left."""
        if self.panel is None or threading.get_ident() not in self._adjusting_threads:
            return params
        return self._cleaned(params)

    def _cleaned(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._kept is None:
            return params
        return {name: value[self._kept] for name, value in params.items()}

    def clean(self) -> Removed:
        """Hide floaters and needles until `undo_cleaning`; the model and its checkpoints stay as they are."""
        with self.lock():
            params = {name: param.detach().cpu().clone() for name, param in self.model.gauss_params.items()}
        splats = gaussians_of_parameters(params, self.model.config.sh_degree).finite()
        visible = splats.usable() & (splats.opacities >= MIN_OPACITY_LOGIT)
        photos = getattr(self.viewer.pipeline.datamanager, "train_dataset", None)
        removed = unwanted(splats[visible], None if photos is None else viewpoints_of(photos.cameras))
        kept = np.ones(len(splats), bool)
        kept[np.flatnonzero(visible)[removed.any()]] = False
        self._kept = torch.from_numpy(kept).to(self.model.device)
        self.rerender()
        return removed

    def undo_cleaning(self) -> None:
        """Show all again."""
        self._kept = None
        self.rerender()

    def after_training(self, step: int) -> None:
        """Show the result, which can be cleaned now."""
        super().after_training(step)
        if self.panel is not None:
            self.panel.offer_cleaning()

    def _drawn_by_page(self, thread: RenderStateMachine) -> bool:
        """Except a page's first picture: it appears sooner than the splats, and fills the menu of what can be
        rendered."""
        assert self.panel is not None
        self._splats.visible = self.panel.draws_in_browser and self.page_can_draw()
        return self._splats.visible and bool(thread.output_keys)

    def _background(self) -> Float[Tensor, "3"]:
        return self.model.background()

    def _send_backdrop(self, thread: RenderStateMachine) -> None:
        behind = self._backdrops.get(thread.client.client_id)
        if time.monotonic() >= self._hold_until or behind != pose_of(thread.client):
            super()._send_backdrop(thread)

    def _hold_pictures(self) -> None:
        """Puts a picture of the current view behind the splats of each page for a while."""
        for thread in list(self.viewer.render_statemachines.values()):
            if thread.output_keys:
                pose = pose_of(thread.client)
                picture = self._rendered(thread.client, min(self.viewer.control_panel.max_res, 512))
                thread.client.scene.set_background_image(picture.numpy(), format="jpeg", jpeg_quality=75)
                self._backdrops[thread.client.client_id] = pose
        self._hold_until = time.monotonic() + HOLD_SECONDS
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = threading.Timer(HOLD_SECONDS + 0.1, self.rerender)
        self._hold_timer.daemon = True
        self._hold_timer.start()

    def _rendered(self, client: Any, height: int) -> UInt8[Tensor, "H W 3"]:
        """A picture of a page's current view."""
        state = self.viewer.get_camera_state(client)
        camera = get_camera(state, height, round(height * state.aspect)).to(self.model.device)
        with self.evaluating(), self.adjusted():
            rgb = self.model.get_outputs_for_camera(camera, obb_box=self.crop_box())["rgb"]
        return (rgb * 255).round().to(torch.uint8).cpu()

    # ------------------------------------------------------------------------------------------------- refreshes

    def _shows(self) -> bool:
        return self._splats.visible

    def _settings(self) -> Any:
        return super()._settings(), self._kept is not None

    def _send(self) -> None:
        assert self.panel is not None
        self._hold_pictures()
        params = self.panel.shown.of(self.gaussians())
        self._splats.replace(browser_splats(params, self.model.config.sh_degree, self.page_units()))
        self.panel.sent(f"{len(params['means']):,} in the browser", self._splats.bytes_sent)

    def gaussians(self) -> dict[str, Tensor]:
        """The model's parameters that cleaning has left inside the viewer's crop box, without gradients."""
        params: dict[str, Any] = {name: param.detach() for name, param in self.model.gauss_params.items()}
        params = self._cleaned(params)
        box = self.crop_box()
        if box is not None:
            inside = box.within(params["means"])
            params = {name: value[inside] for name, value in params.items()}
        return params
