# SPDX-License-Identifier: Apache-2.0
"""Controls of a radiance field in the viewer: the points that the page may draw while its camera moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from img3d_methods.viewing.view_panel import PanelledView, ViewPanel

POINTS = 30_000
"""Initial number of rays that are cast for points."""
POINT_SIZE = 0.006
"""Initial size of a point in world units; the cameras span about two."""


@dataclass(frozen=True)
class ShownPoints:
    """The panel's sliders."""

    count: int
    """Number of rays that are cast for points."""
    size: float
    """Size of a point, in world units."""


class PointCloudPanel(ViewPanel):
    """The tabs "Points" and "Export".

    Args:
        view: The view to control; its viewer is set up.
    """

    def __init__(self, view: PanelledView) -> None:
        super().__init__(view, "Points")

    def _add_controls(self, gui: Any) -> Sequence[Any]:
        self._points = gui.add_checkbox(
            "Points while the camera moves",
            False,
            hint="On: points, drawn by the browser. Off: rendered pictures, as small as 10 a second need them.",
        )
        self._count = gui.add_slider("Points shown", min=1_000, max=200_000, step=1_000, initial_value=POINTS)
        self._point_size = gui.add_slider("Point size", min=0.001, max=0.03, step=0.001, initial_value=POINT_SIZE)
        return self._points, self._count, self._point_size

    def _add_exports(self, gui: Any) -> None:
        """A radiance field cannot be downloaded: no other program could read it."""

    def _model_size(self) -> str:
        return ""

    @property
    def draws_points(self) -> bool:
        return self._points.value

    @property
    def shown(self) -> ShownPoints:
        return ShownPoints(int(self._count.value), float(self._point_size.value))
