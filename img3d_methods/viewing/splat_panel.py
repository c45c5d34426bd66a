# SPDX-License-Identifier: Apache-2.0
"""Controls of splats in the viewer (how many, how large, how opaque), and their download."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from img3d_assets.gaussians import gaussians_of_parameters
from img3d_assets.splat_files import FORMATS, write_splats
from img3d_methods.viewing.crop_box import CropBox
from img3d_methods.viewing.splat_packets import ShownGaussians
from img3d_methods.viewing.view_panel import PanelledView, ViewPanel

if TYPE_CHECKING:
    from torch import Tensor

    from img3d_assets.splat_editing.cleaning import Removed
    from img3d_methods.viewing.viewed_model import ViewedSplatModel

MAX_SHOWN = 200_000
"""Initial number of Gaussians shown: what a laptop's graphics draw smoothly."""
MIN_SHOWN = 1_000
FILE_ENDINGS = ("ply", *sorted(ending[1:] for ending in FORMATS if ending != ".gltf"))
"""Endings of the downloadable formats, PLY first; a glTF consists of several files."""


class PanelledSplatView(PanelledView, Protocol):
    """What the panel needs of the view of Gaussians; `LiveView` implements it."""

    @property
    def model(self) -> ViewedSplatModel: ...

    def lock(self) -> Any: ...

    def gaussians(self) -> dict[str, Tensor]: ...

    def clean(self) -> Removed: ...

    def undo_cleaning(self) -> None: ...


class LiveViewPanel(ViewPanel):
    """The tabs "Splats" and "Export".

    Args:
        view: The view to control; its viewer is set up.
    """

    COMMANDS = {**ViewPanel.COMMANDS, "viewer": "page", "lod": "lod"}

    def __init__(self, view: PanelledSplatView) -> None:
        self.view = view
        super().__init__(view, "Splats")

    def _add_controls(self, gui: Any) -> Sequence[Any]:
        model = self.view.model
        most = max(model.max_gaussians, model.num_points, 2 * MIN_SHOWN)
        self._in_browser = gui.add_checkbox(
            "Draw splats in the browser",
            True,
            hint="On: smooth, with one colour per Gaussian. Off: exact pictures rendered by the trainer.",
        )
        self._limit = gui.add_slider(
            "Gaussians shown",
            min=MIN_SHOWN,
            max=most,
            step=MIN_SHOWN,
            initial_value=min(MAX_SHOWN, most),
            hint="If there are more, those with the largest opacity times area are shown.",
        )
        self._size = gui.add_slider("Size", min=0.05, max=2.0, step=0.05, initial_value=1.0)
        self._opacity = gui.add_slider("Opacity", min=0.05, max=1.0, step=0.05, initial_value=1.0)
        self._add_cropping(gui)
        self._add_cleaning(gui)
        return self._in_browser, self._limit, self._size, self._opacity

    def _add_cropping(self, gui: Any) -> None:
        self._box: CropBox | None = None
        control = self.view.viewer.control_panel
        self._crop_switch = crop = gui.add_checkbox(
            "Crop box",
            False,
            hint="Arrows move it, rings turn it, its corner resizes it. Downloads and pictures are cropped, too.",
        )
        self._crop_lock = threading.Lock()

        def clicked(event: Any) -> None:
            if event.client_id is not None:  # not by _follow_crop_box()
                self._crop(crop.value)

        crop.on_update(clicked)
        # Nerfstudio's own box in the tab Control.
        control._crop_viewport.gui_handle.on_update(lambda _: self._follow_crop_box())

    def _crop(self, on: bool) -> None:
        self.view.viewer.control_panel.crop_viewport = on
        self._follow_crop_box()

    def _follow_crop_box(self) -> None:
        """Shows what Nerfstudio's control says. Viser calls handlers in threads, in any order."""
        viewer = self.view.viewer
        with self._crop_lock:
            on = viewer.control_panel.crop_viewport
            if on and self._box is None:
                means = self.view.model.gauss_params["means"].detach().cpu().numpy()  # all, not those inside
                self._box = CropBox(viewer.viser_server, viewer.control_panel, means, self.view.rerender)
            if self._crop_switch.value != on:
                self._crop_switch.value = on
        viewer.control_panel.update_control_panel()  # its own handler may not be called, see crop_box.py
        self.view.rerender()

    def _add_cleaning(self, gui: Any) -> None:
        self._clean = gui.add_button(
            "Clean",
            hint="Hides floaters, fog before cameras and needles, here and in what is downloaded. "
            "The run stays as it is: img3d-export splat --clean does the same.",
        )
        self._undo = gui.add_button("Undo cleaning", color="gray", visible=False)
        self._removed = gui.add_markdown("")
        self._clean.visible = self.view.viewer.trainer is None
        self._clean.on_click(lambda _: self._hide_unwanted())
        self._undo.on_click(lambda _: self._show_all())

    def offer_cleaning(self) -> None:
        """Training is over: Gaussians do not change any more."""
        self._clean.visible = True

    def _hide_unwanted(self) -> None:
        self._clean.disabled = True
        self._removed.content = "Looking for floaters …"
        self._removed.content = str(self.view.clean())
        self._clean.visible, self._undo.visible = False, True

    def _show_all(self) -> None:
        self.view.undo_cleaning()
        self._removed.content = ""
        self._clean.disabled, self._clean.visible, self._undo.visible = False, True, False

    def _add_exports(self, gui: Any) -> None:
        self._format = gui.add_dropdown("Format", FILE_ENDINGS)
        export = gui.add_button(
            "Download splats", hint="The current Gaussians inside the crop box, without what is cleaned away."
        )
        export.on_click(lambda event: self._export(self._splats, event))

    def _model_size(self) -> str:
        return f"**Gaussians** {self.view.model.num_points:,}"

    @property
    def draws_in_browser(self) -> bool:
        return self._in_browser.value

    @property
    def shown(self) -> ShownGaussians:
        return ShownGaussians(int(self._limit.value), float(self._size.value), float(self._opacity.value))

    def _splats(self, event: Any) -> str:
        model, ending = self.view.model, self._format.value
        with self.view.lock():
            params = {name: value.cpu().clone() for name, value in self.view.gaussians().items()}
            name = f"splat_step_{model.step:06d}.{ending}"
        splats = gaussians_of_parameters(params, model.config.sh_degree).visible()
        splats.antialiased = model.config.rasterize_mode == "antialiased"
        with TemporaryDirectory() as folder:
            write_splats(splats, Path(folder) / name, "z")
            content = (Path(folder) / name).read_bytes()
        event.client.send_file_download(name, content)
        return f"{len(splats):,} Gaussians, {len(content) / 1e6:.1f} MB, were sent to your downloads as `{name}`."
