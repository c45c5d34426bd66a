# SPDX-License-Identifier: Apache-2.0
"""The live view's controls in the viewer: what is shown, how training goes, and what can be saved from here."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from img3d_dataparsers.errors import InputError
from img3d_methods.curve_figures import loss_curve, psnr_curve
from img3d_methods.splat_packets import ShownGaussians
from img3d_methods.splats import splats_of_parameters
from img3d_methods.training_curve import CurvePoint

if TYPE_CHECKING:
    from img3d_methods.live_view import LiveView

MOST_SHOWN = 200_000
"""Gaussians that a page is asked to draw to begin with: what a laptop's graphics draw smoothly."""
LEAST_SHOWN = 1_000
PICTURE_HEIGHT = 1080
SPLAT_WRITERS = "img3d.splat_writers"
"""Entry points, by the ending of the files that they write: functions of a `Splats`, the file's path and the axis that
points up. (The exporters build upon this package, which so knows nothing of them.)"""
SECONDS_PER_UPDATE = 1.0
SECONDS_PER_CURVE = 5.0
"""Least time between two drawings of the curves."""
SHARE_OF_CURVES = 0.01
"""Most of the training time that drawing curves may take."""


class LiveViewPanel:
    """Two tabs, between the viewer's step counter and its own tabs.

    Args:
        view: The live view that they control; its viewer is set up.
    """

    def __init__(self, view: LiveView) -> None:
        self.view = view
        self._updated_at = 0.0
        self._sent = ""
        self._drawn_points, self._draw_again_at = 0, 0.0
        most = max(view.model.max_gaussians, view.model.num_points, 2 * LEAST_SHOWN)
        gui = view.viewer.viser_server.gui
        tabs = gui.add_tab_group(order=view.viewer.stats_markdown.order + 0.5)
        with tabs.add_tab("Splats"):
            self._in_browser = gui.add_checkbox(
                "Draw splats in the browser",
                True,
                hint="Smooth, with one colour for each Gaussian. Off: pictures rendered by the trainer, exact.",
            )
            self._limit = gui.add_slider(
                "Gaussians shown",
                min=LEAST_SHOWN,
                max=most,
                step=LEAST_SHOWN,
                initial_value=min(MOST_SHOWN, most),
                hint="Above it, only those with the largest opacity times area.",
            )
            self._size = gui.add_slider("Size", min=0.05, max=2.0, step=0.05, initial_value=1.0)
            self._opacity = gui.add_slider("Opacity", min=0.05, max=1.0, step=0.05, initial_value=1.0)
            self._numbers = gui.add_markdown("")
            self._curves = gui.add_markdown("", image_root=Path())  # without a folder viser warns of data URIs too
        with tabs.add_tab("Save"):
            self._writers = {writer.name: writer for writer in entry_points(group=SPLAT_WRITERS)}
            self._format = gui.add_dropdown("Format", sorted(self._writers, key=lambda name: (name != "ply", name)))
            export = gui.add_button("Export splats", hint="What is trained so far, inside the crop box.")
            self._picture_height = gui.add_number(
                "Picture height", PICTURE_HEIGHT, min=16, max=4320, step=1, hint="Pixels; the width follows the window."
            )
            picture = gui.add_button("Picture of this view", hint="Rendered with all that the model has.")
            self._saved = gui.add_markdown("")
        for control in (self._in_browser, self._limit, self._size, self._opacity):
            control.on_update(lambda _: view.rerender())
        export.on_click(lambda event: self._save(self._export, event))
        picture.on_click(lambda event: self._save(self._picture, event))
        self.update(now=True)

    @property
    def draws_in_browser(self) -> bool:
        return self._in_browser.value

    @property
    def shown(self) -> ShownGaussians:
        return ShownGaussians(int(self._limit.value), float(self._size.value), float(self._opacity.value))

    def sent(self, num_gaussians: int, num_bytes: int) -> None:
        """Note what the last refresh sent."""
        self._sent = f"{num_gaussians:,} in the browser ({num_bytes / 1e6:.1f} MB)"
        self._updated_at = 0.0
        self.update()

    def update(self, now: bool = False) -> None:
        """Show the current numbers, about once a second, and the curves, less often."""
        began = time.monotonic()
        if not now and began < self._updated_at + SECONDS_PER_UPDATE:
            return
        self._updated_at = began
        points = self.view.curve()
        self._numbers.content = self._text(points)
        if len(points) > max(1, self._drawn_points) and (now or began > self._draw_again_at):
            self._curves.content = self._drawn(points)
            seconds = time.monotonic() - began
            self._drawn_points = len(points)
            self._draw_again_at = began + max(SECONDS_PER_CURVE, seconds / SHARE_OF_CURVES)

    def _text(self, points: Sequence[CurvePoint]) -> str:
        gaussians = f"**Gaussians** {self.view.model.num_points:,}"
        lines = [f"{gaussians}, {self._sent}" if self._sent else gaussians, *self.view.progress.lines()]
        if points:
            lines.append(f"**Training PSNR** {points[-1].psnr:.1f} dB")
        return "  \n".join(lines)

    def _drawn(self, points: Sequence[CurvePoint]) -> str:
        doublings = [step for step in self.view.model.schedule.doublings if step <= points[-1].step]
        return f"![Training PSNR]({psnr_curve(points, None, doublings)})\n![Loss]({loss_curve(points, doublings)})"

    # --------------------------------------------------------------------------------------------------- saving

    def _save(self, write: Callable[[Any], str], event: Any) -> None:
        try:
            self._saved.content = write(event)
        except InputError as error:
            self._saved.content = str(error)

    def _export(self, event: Any) -> str:
        model, ending = self.view.model, self._format.value
        with self.view.lock():
            params = {name: value.cpu().clone() for name, value in self.view.gaussians().items()}
            path = self.view.viewer.log_filename.parent / "exports" / f"splat_step_{model.step:06d}.{ending}"
        splats = splats_of_parameters(params, model.config.sh_degree).visible()
        splats.antialiased = model.config.rasterize_mode == "antialiased"
        self._writers[ending].load()(splats, path, "z")
        return f"{len(splats):,} Gaussians written to `{path}`"

    def _picture(self, event: Any) -> str:
        picture = Image.fromarray(self.view.picture(event.client, int(self._picture_height.value)).numpy())
        content = io.BytesIO()
        picture.save(content, format="PNG")
        event.client.send_file_download(f"view_step_{self.view.model.step:06d}.png", content.getvalue())
        return f"A picture of {picture.width} x {picture.height} pixels was sent to your downloads."
