# SPDX-License-Identifier: Apache-2.0
"""How large a picture may be while the camera moves: as large as this machine renders smoothly."""

from __future__ import annotations

from nerfstudio.cameras.cameras import Cameras

FRAMES_PER_SECOND = 20.0
"""Aimed at while the camera moves. Rendering then holds training up for a twentieth of a second at a time."""
FIRST_PIXELS = 65_536.0
MIN_PIXELS = 4_096.0
MAX_CHANGE = 2.0
"""From one picture to the next, as a factor of its pixels: one that was held up by something else tells little."""


class RenderPace:
    """Follows how long pictures of a moving camera take, and chooses the next one's size."""

    def __init__(self) -> None:
        self._pixels = FIRST_PIXELS

    def resize(self, camera: Cameras, aspect: float, max_size: int) -> None:
        """Makes a perspective camera of the viewer take pictures of the right size.

        Args:
            camera: one camera; changed in place.
            aspect: width divided by height of what the page shows.
            max_size: the longer side is at most this many pixels.
        """
        height = max(1, int(min((self._pixels / aspect) ** 0.5, max_size, max_size / aspect)))
        width = max(1, round(height * aspect))
        for focal in (camera.fx, camera.fy):
            focal.mul_(height / camera.height)
        camera.cx.fill_(width / 2)
        camera.cy.fill_(height / 2)
        camera.width.fill_(width)
        camera.height.fill_(height)

    def record(self, pixels: int, seconds: float) -> None:
        """Learns from a picture. Part of the time does not depend on its size: the next ones correct what is left."""
        change = 1 / FRAMES_PER_SECOND / max(seconds, 1e-4)
        self._pixels = max(MIN_PIXELS, pixels * min(max(change, 1 / MAX_CHANGE), MAX_CHANGE))
