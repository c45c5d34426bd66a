# SPDX-License-Identifier: Apache-2.0
"""A page of ours in a browser: what it asked for, what it complained about, and what it shows."""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hang_limit import HANG_SECONDS
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ONLY_THE_SCENE = (
    ".sse-ui, #img3d-progress, #img3d-message, #img3d-toggle, #img3d-help { visibility: hidden !important; }"
)


class OpenedPage:
    """A page in a context of its own.

    Args:
        browser: Chromium.
        url: file:// or http://127.0.0.1.
        width, height: Of the window, pixels.
        touch: Whether it is a touch screen.
    """

    def __init__(self, browser: Browser, url: str, width: int = 400, height: int = 300, touch: bool = False) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * HANG_SECONDS)
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.problems.append(message.text) if message.type in ("error", "warning") else None,
        )
        self.page.goto(url, wait_until="commit")

    def wait_until(self, expression: str) -> None:
        """Until this is true in the page. (Playwright's own way to wait evaluates strings, which the page forbids.)"""
        deadline = time.monotonic() + HANG_SECONDS
        while not self.page.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < deadline, f"never: {expression}; {self.problems}"
            self.page.wait_for_timeout(100)

    def wait_for_request(self, end: str) -> None:
        """Until it has asked for a file whose address ends so."""
        deadline = time.monotonic() + HANG_SECONDS
        while not any(url.endswith(end) for url in self.requests):
            assert time.monotonic() < deadline, f"never asked for {end}; {self.problems}"
            self.page.wait_for_timeout(100)

    def complete(self) -> OpenedPage:
        """Wait until all splats are shown."""
        self.wait_until("window.img3d && img3d.complete")
        return self

    def settled(self) -> np.ndarray:
        """The scene without controls, `[H, W, 3]` in [0, 1], as soon as two looks at it are the same."""
        last = self.picture()
        for _ in range(40):
            self.page.wait_for_timeout(250)
            last, before = self.picture(), last
            if np.array_equal(last, before):
                return last
        raise AssertionError("the picture does not come to rest")

    def picture(self) -> np.ndarray:
        """The scene without controls, as it is now."""
        with Image.open(io.BytesIO(self.page.screenshot(style=ONLY_THE_SCENE))) as image:
            return np.asarray(image.convert("RGB"), np.float32) / 255

    def camera(self) -> np.ndarray:
        """The page's camera centre, in its own axes (y up)."""
        position = "img3d.viewer.app.root.findByName('camera').getPosition()"
        return np.array(self.page.evaluate(f"(({{x, y, z}}) => [x, y, z])({position})"))

    def drag(self, dx: int, dy: int) -> None:
        """With the left button, from where there are no controls."""
        x, y = self._free_place()
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + dx, y + dy, steps=6)
        self.page.mouse.up()

    def swipe(self, dx: int, dy: int, start: tuple[float, float] | None = None) -> None:
        """With one finger, from `start`, or from where there are no controls."""
        x, y = start or self._free_place()
        session = self.context.new_cdp_session(self.page)
        for step in range(8):
            point = {"x": x + dx * step / 7, "y": y + dy * step / 7}
            kind = "touchStart" if step == 0 else "touchMove"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
            self.page.wait_for_timeout(30)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def _free_place(self) -> tuple[float, float]:
        size = self.page.viewport_size
        assert size is not None
        return size["width"] / 8, size["height"] / 2

    def check_it_kept_to_itself(self, origin: str) -> None:
        """No complaints, and nothing asked for but what lies beside the page."""
        assert self.problems == []
        assert [url for url in self.requests if not url.startswith((origin, "blob:", "data:"))] == []

    def __enter__(self) -> OpenedPage:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; files whose name is in `held` wait for `release`."""

    held: frozenset[str] = frozenset()
    release = threading.Event()

    def do_GET(self) -> None:
        if self.path.lstrip("/") in self.held:
            self.release.wait(HANG_SECONDS)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path, held: frozenset[str] = frozenset()) -> Iterator[tuple[str, threading.Event]]:
    """The address of a plain local web server of a folder, and the event that lets go of the files in `held`."""
    release = threading.Event()
    handler = type("Handler", (_Quiet,), {"held": held, "release": release})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", release
        finally:
            release.set()
            server.shutdown()
            thread.join()
