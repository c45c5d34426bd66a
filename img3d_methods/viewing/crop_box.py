# SPDX-License-Identifier: Apache-2.0
"""The viewer's crop box, to see and to drag: Nerfstudio's has a gizmo for its centre, and numbers for its size.

Nerfstudio's controls stay what says where the box is, so that pictures, exports and its own tab agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from nerfstudio.viewer.control_panel import ControlPanel
    from viser import ViserServer

FIT = 0.2
"""The share of Gaussians that the box leaves out at either end of each axis when it first appears: most are in what was
photographed, a few make up all around it."""
MARGIN = 1.5
"""How much larger it is than that."""
MIN_SIZE = 1e-3
"""World units along each axis."""
HANDLE = 0.15
"""Length of the arrows at the corner, in lengths of the box."""
COLOR = (250, 170, 40)
EDGES = np.array(
    [
        *([-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, -1], [-1, -1, 1], [1, -1, 1], [1, -1, -1]),
        *([1, -1, 1], [1, 1, 1], [1, 1, -1], [1, 1, 1], [-1, 1, 1], [-1, 1, -1], [-1, 1, 1], [-1, -1, 1]),
    ]
)
"""A way along all edges of the box between -1 and 1."""


class CropBox:
    """Shows Nerfstudio's crop box in the scene, with a corner that can be dragged.

    Args:
        server: The pages'.
        control: Nerfstudio's, which holds the box.
        points: `[N, 3]`, world coordinates: what the box is to go around.
        changed: Called when the corner was dragged.
    """

    def __init__(
        self,
        server: ViserServer,
        control: ControlPanel,
        points: Float[np.ndarray, "N 3"],
        changed: Callable[[], None],
    ) -> None:
        self._server, self._control, self._changed = server, control, changed
        if tuple(control._crop_center.value) == (0, 0, 0) and tuple(control._crop_scale.value) == (1, 1, 1):
            self._go_around(points)
        size = max(control._crop_scale.value) * control.viser_scale_ratio
        self._corner = server.scene.add_transform_controls(
            "Crop/corner", scale=HANDLE * size, line_width=3.0, disable_rotations=True, depth_test=False
        )
        self._corner.on_update(lambda _: self._resize())
        handle: Any = control._crop_scale.gui_handle
        handle.on_update(lambda _: self._draw())
        self._draw()

    def _go_around(self, points: Float[np.ndarray, "N 3"]) -> None:
        low, high = np.quantile(points, [FIT, 1 - FIT], axis=0) if len(points) else (-np.ones(3), np.ones(3))
        self._control._crop_center.value = _rounded((low + high) / 2)
        self._control._crop_scale.value = _rounded(np.maximum(MARGIN * (high - low), MIN_SIZE))

    def _resize(self) -> None:
        """The centre stays, and the corner that was dragged says the size."""
        half = np.abs(self._corner.position) / self._control.viser_scale_ratio
        self._control._crop_scale.value = _rounded(np.maximum(2 * half, MIN_SIZE))
        # Not left to the handlers of that value: viser 0.2.7 calls the last one of several for each.
        self._draw()
        self._changed()

    def _draw(self) -> None:
        half = np.array(self._control._crop_scale.value) / 2 * self._control.viser_scale_ratio
        if not np.allclose(np.abs(self._corner.position), half, rtol=1e-3, atol=1e-3):
            self._corner.position = half
        self._server.scene.add_spline_catmull_rom(
            "Crop/edges", half * EDGES, "catmullrom", tension=0.0, line_width=2.0, color=COLOR, segments=15 * 8
        )


def _rounded(values: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = np.round(values, 4)
    return float(x), float(y), float(z)
