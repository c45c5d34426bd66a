# SPDX-License-Identifier: Apache-2.0
"""Renders the current view of a viewer's page at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from nerfstudio.viewer.render_state_machine import RenderStateMachine

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer


class ViewPicture(RenderStateMachine):
    """Renders like the thread that Nerfstudio runs for each page, with all settings of its panel, but keeps the
    picture.

    It never runs as a thread.

    Args:
        viewer: Nerfstudio's viewer.
        page: The viser client whose view is rendered.
        height: Height of the picture in pixels; the width follows the page's aspect ratio.
    """

    def __init__(self, viewer: Viewer, page: Any, height: int) -> None:
        super().__init__(viewer, 1.0, page)
        self.state = "high"
        self._height = height
        self._view = viewer.get_camera_state(page)
        self._picture: UInt8[np.ndarray, "H W 3"] | None = None
        # The receiver of the picture and its aspect ratio: a preview would be padded to the page's.
        self.client: Any = self
        self.scene = self.camera = self
        self.aspect = self._view.aspect

    def take(self) -> UInt8[np.ndarray, "H W 3"]:
        """Renders the picture; the viewer's lock must be free."""
        shown = self.viewer.stats_markdown.content
        self._send_output_to_viewer(self._render_img(self._view))
        self.viewer.stats_markdown.content = shown  # its "Resolution" is the page's, not this picture's
        assert self._picture is not None
        return self._picture

    def set_background_image(self, image: UInt8[np.ndarray, "H W 3"], **_: Any) -> None:
        """Receives the picture instead of the page."""
        self._picture = image

    def _calculate_image_res(self, aspect_ratio: float) -> tuple[int, int]:
        return self._height, round(self._height * aspect_ratio)
