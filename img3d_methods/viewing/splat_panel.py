# SPDX-License-Identifier: Apache-2.0
"""Controls of splats in the viewer (how many, how large, how opaque), and their download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from img3d_assets.gaussians import gaussians_of_parameters
from img3d_assets.splat_files import FORMATS, write_splats
from img3d_methods.viewing.splat_packets import ShownGaussians
from img3d_methods.viewing.view_panel import PanelledView, ViewPanel

if TYPE_CHECKING:
    from torch import Tensor

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
        return self._in_browser, self._limit, self._size, self._opacity

    def _add_exports(self, gui: Any) -> None:
        self._format = gui.add_dropdown("Format", FILE_ENDINGS)
        export = gui.add_button("Download splats", hint="The current Gaussians inside the crop box.")
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
