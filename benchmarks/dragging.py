# SPDX-License-Identifier: Apache-2.0
"""How many of `ns-viewer`'s own pictures reach a browser's page while one drags its view around.

Chromium draws in software on the same cores as the renderer, which costs frames that a user with a graphics card has.

    python benchmarks/dragging.py --load-config outputs/fox/img3d-nerf/…/config.yml
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from browsing import HEIGHT, WIDTH
from headless_chromium import NoChromiumError, headless_chromium
from kernels import describe_machine
from PIL import Image
from playwright.sync_api import Browser, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

PORT = 7110
PATIENCE = 120.0
"""Seconds to wait for a picture."""
SETTLED_SECONDS = 3.0
"""Of dragging before frames count: the size of the pictures follows the time that they take."""


class Frames:
    """Hands on what the viewer and a page say to each other, and notes the pictures: when, and how wide and high.

    The page's socket belongs to a worker of its own, which Playwright does not see.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.sizes: list[tuple[int, int]] = []
        self._server = serve(self._hand_on, "127.0.0.1", 0, max_size=None, compression=None)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.port: int = self._server.socket.getsockname()[1]

    def _hand_on(self, page: ServerConnection) -> None:
        with (
            suppress(ConnectionClosed),
            connect(f"ws://127.0.0.1:{PORT}", max_size=None, compression=None) as viewer,
        ):
            threading.Thread(target=_copy, args=(page, viewer), daemon=True).start()
            for payload in viewer:
                page.send(payload)
                if isinstance(payload, bytes) and b"BackgroundImageMessage" in payload:
                    self._note(payload)

    def _note(self, payload: bytes) -> None:
        for message in msgspec.msgpack.decode(payload):
            if message["type"] == "BackgroundImageMessage" and message["rgb_bytes"]:
                self.times.append(time.monotonic())
                self.sizes.append(Image.open(io.BytesIO(message["rgb_bytes"])).size)


def _copy(from_page: ServerConnection, viewer: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        for payload in from_page:
            viewer.send(payload)


def open_page(browser: Browser, frames: Frames) -> Page:
    """The viewer's page as soon as it answers, and has shown a picture."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            page.goto(f"http://127.0.0.1:{PORT}?websocket=ws://127.0.0.1:{frames.port}")
            break
        except Exception:  # Playwright's, for a refused connection
            time.sleep(0.2)
    while not frames.times:
        if time.monotonic() > deadline:
            sys.exit("The page is sent no picture: splats that it draws itself need benchmarks/browsing.py.")
        page.wait_for_timeout(100)
    return page


def drag(page: Page, seconds: float) -> None:
    """Turn the view to and fro with the left button held."""
    x, y = WIDTH // 3, HEIGHT // 2
    page.mouse.move(x, y)
    page.mouse.down()
    deadline, step = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        step += 1
        page.mouse.move(x + 120 * np.sin(step / 15), y + 20 * np.sin(step / 40))
        page.wait_for_timeout(16)
    page.mouse.up()


def main() -> None:
    """Start the viewer, drag, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load-config", type=Path, required=True, help="a run's config.yml")
    parser.add_argument("--seconds", type=float, default=10.0, help="of dragging")
    arguments = parser.parse_args()
    command = [str(Path(sys.executable).parent / "ns-viewer"), "--load-config", str(arguments.load_config)]
    command += ["--viewer.websocket-port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as viewer:
        try:
            with headless_chromium() as browser:
                frames = Frames()
                page = open_page(browser, frames)
                drag(page, SETTLED_SECONDS)
                first = len(frames.times)
                drag(page, arguments.seconds)
                times, sizes = frames.times[first:], frames.sizes[first:]
        except NoChromiumError as missing:
            sys.exit(str(missing))
        finally:
            viewer.terminate()
    if len(times) < 2:
        sys.exit("No pictures came while the view was dragged.")
    width, height = (int(statistics.median(side)) for side in zip(*sizes, strict=True))
    rate = (len(times) - 1) / (times[-1] - times[0])
    print(f"{describe_machine()}. Chromium draws in software.\n\n{rate:.1f} pictures a second of {width}x{height}.")


if __name__ == "__main__":
    main()
