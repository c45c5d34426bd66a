# SPDX-License-Identifier: Apache-2.0
"""Chooses the size of pictures while the camera moves: as large as this machine renders smoothly."""

from __future__ import annotations

from nerfstudio.cameras.cameras import Cameras

FIRST_PIXELS = 65_536.0
MIN_PIXELS = 4_096.0
MAX_CHANGE = 2.0
"""Maximum factor by which the number of pixels changes from one picture to the next, since a single picture may have
been delayed by other work."""


class RenderPace:
    """Measures how long pictures of a moving camera take, and chooses the size of the next one.

    Args:
        frames_per_second: The target. Each picture delays training by one over this many seconds.
    """

    def __init__(self, frames_per_second: float) -> None:
        self._frames_per_second = frames_per_second
        self._pixels = FIRST_PIXELS

    def resize(self, camera: Cameras, aspect: float, max_size: int) -> None:
        """Resizes a perspective camera of the viewer.

        Args:
            camera: A single camera; changed in place.
            aspect: Width divided by height of what the page shows.
            max_size: Maximum of the longer side, in pixels.
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
        """Updates the size from the time that a picture took. Part of that time does not depend on the size; later
        pictures correct the rest."""
        change = 1 / self._frames_per_second / max(seconds, 1e-4)
        self._pixels = max(MIN_PIXELS, pixels * min(max(change, 1 / MAX_CHANGE), MAX_CHANGE))
