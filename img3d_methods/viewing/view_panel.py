# SPDX-License-Identifier: Apache-2.0
"""The viewer's tabs of a model: what its pages draw, how training is going, and what can be exported.

Exports are sent to the page's downloads: the person who looks at a run may be on another machine, without write
access to the run.
"""

from __future__ import annotations

import io
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from img3d_base.errors import InputError
from img3d_methods.training.curve import CurvePoint

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8
    from nerfstudio.viewer.viewer import Viewer

    from img3d_methods.training.progress import TrainingProgress
    from img3d_methods.viewing.viewed_model import ViewedModel

PICTURE_HEIGHT = 1080
SECONDS_PER_UPDATE = 1.0
SECONDS_PER_CURVE = 5.0
"""Minimum time between two drawings of the curves."""
SHARE_OF_CURVES = 0.01
"""Maximum fraction of the training time for drawing curves."""


class PanelledView(Protocol):
    """What a panel needs of the view that it controls; `BrowserView` implements it."""

    viewer: Viewer
    progress: TrainingProgress

    @property
    def model(self) -> ViewedModel: ...

    def rerender(self) -> None: ...

    def curve(self) -> list[CurvePoint]: ...

    def doublings(self) -> Sequence[int]: ...

    def picture(self, client: Any, height: int) -> UInt8[np.ndarray, "H W 3"]: ...


class ViewPanel(ABC):
    """Two tabs between the viewer's step counter and its own tabs.

    Args:
        view: The view to control; its viewer is set up.
        name: The name of the first tab; the second is "Export".
    """

    COMMANDS = {"mesh": "mesh.glb", "pointcloud": "points.ply", "video": "video.mp4", "report": "report.html"}
    """Subcommands of `img3d-export` that suit such a run, besides the page's own downloads, with an example output
    each."""

    def __init__(self, view: PanelledView, name: str) -> None:
        self._view = view
        self._updated_at = 0.0
        self._sent = ""
        self._drawn_points, self._draw_again_at = 0, 0.0
        gui = view.viewer.viser_server.gui
        tabs = gui.add_tab_group(order=view.viewer.stats_markdown.order + 0.5)
        with tabs.add_tab(name):
            for control in self._add_controls(gui):
                control.on_update(lambda _: view.rerender())
            self._numbers = gui.add_markdown("")
            self._curves = gui.add_markdown("", image_root=Path())  # else viser warns even about data URIs
        with tabs.add_tab("Export"):
            self._add_exports(gui)
            self._picture_height = gui.add_number(
                "Picture height", PICTURE_HEIGHT, min=16, max=4320, step=1, hint="Pixels; the width follows the window."
            )
            picture = gui.add_button("Picture of this view", hint="The current view in full detail.")
            others = gui.add_button(
                "Other files …", color="gray", hint="Commands that export this run to other formats."
            )
            self._exported = gui.add_markdown("")
        picture.on_click(lambda event: self._export(self._picture, event))
        others.on_click(self._show_commands)
        self.update(now=True)

    @abstractmethod
    def _add_controls(self, gui: Any) -> Sequence[Any]:
        """Adds the controls at the top of the first tab, and returns those that change the view."""

    @abstractmethod
    def _add_exports(self, gui: Any) -> None:
        """Adds the controls at the top of the second tab."""

    @abstractmethod
    def _model_size(self) -> str:
        """The size of the model, in Markdown."""

    def sent(self, what: str, num_bytes: int) -> None:
        """Notes what the last refresh sent."""
        self._sent = f"{what} ({num_bytes / 1e6:.1f} MB)"
        self._updated_at = 0.0
        self.update()

    def update(self, now: bool = False) -> None:
        """Shows the current numbers, about once a second, and the curves, less often."""
        began = time.monotonic()
        if not now and began < self._updated_at + SECONDS_PER_UPDATE:
            return
        self._updated_at = began
        points = self._view.curve()
        self._numbers.content = self._text(points)
        if len(points) > max(1, self._drawn_points) and (now or began > self._draw_again_at):
            self._curves.content = self._drawn(points)
            seconds = time.monotonic() - began
            self._drawn_points = len(points)
            self._draw_again_at = began + max(SECONDS_PER_CURVE, seconds / SHARE_OF_CURVES)

    def _text(self, points: Sequence[CurvePoint]) -> str:
        lines = [", ".join(filter(None, [self._model_size(), self._sent])), *self._view.progress.lines()]
        if points:
            lines.append(f"**Training PSNR** {points[-1].psnr:.1f} dB")
        return "  \n".join(filter(None, lines))

    def _drawn(self, points: Sequence[CurvePoint]) -> str:
        # Matplotlib takes a second to import, which commands that open no viewer need not wait for.
        from img3d_methods.viewing.curve_figures import loss_curve, psnr_curve

        doublings = [step for step in self._view.doublings() if step <= points[-1].step]
        return f"![Training PSNR]({psnr_curve(points, None, doublings)})\n![Loss]({loss_curve(points, doublings)})"

    # ------------------------------------------------------------------------------------------------- exporting

    def _show_commands(self, event: Any) -> None:
        """Shows the commands in a dialogue, since they are wider than the panel."""
        with event.client.gui.add_modal("Other files") as dialogue:
            event.client.gui.add_markdown("Commands that export the last checkpoint:")
            event.client.gui.add_markdown("\n\n".join(f"```\n{command}\n```" for command in self.commands()))
            close = event.client.gui.add_button("Close")
            close.on_click(lambda _: dialogue.close())

    def commands(self) -> list[str]:
        """The commands that make other files of this run."""
        config = shlex.quote(str(self._view.viewer.log_filename.absolute().parent / "config.yml"))
        return [
            f"img3d-export {name} --load-config {config} --output{'' if '.' in output else '-dir'} {output}"
            for name, output in self.COMMANDS.items()
        ]

    def _export(self, make: Callable[[Any], str], event: Any) -> None:
        """Runs a button's action, and shows its result or error."""
        self._exported.content = "Working …"
        try:
            self._exported.content = make(event)
        except (InputError, OSError) as error:
            self._exported.content = str(error)

    def _picture(self, event: Any) -> str:
        picture = Image.fromarray(self._view.picture(event.client, int(self._picture_height.value)))
        content = io.BytesIO()
        picture.save(content, format="PNG")
        event.client.send_file_download(f"view_step_{self._view.model.step:06d}.png", content.getvalue())
        return f"A picture of {picture.width} x {picture.height} pixels was sent to your downloads."
