# SPDX-License-Identifier: Apache-2.0
"""Shows the viewer of the run that is being trained at the studio's own address. So the browser needs no other port,
and the studio's token protects the viewer too."""

from __future__ import annotations

import asyncio
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.responses import HTMLResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

CONNECT_SECONDS = 10.0
CLOSED_HERE = 1001
"""WebSocket's code for an end that goes away."""
ADDED = '<link rel="stylesheet" href="/static/live.css"><script type="module" src="/static/live.js"></script></head>'
"""What the studio adds to viser's page: it makes room for the scene in a narrow window."""
FOREIGN_SCRIPTS = re.compile(r"<script(?![^>]*type=\"module\")[^>]*>.*?</script>", re.DOTALL)
"""The scripts of viser's page that report visits to Google Analytics."""


def client_folder() -> Path | None:
    """The folder of viser's page, which loads its scripts from /assets; None if viser is not installed."""
    spec = find_spec("viser")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "client" / "build"


def page(folder: Path) -> HTMLResponse:
    """Viser's page, which connects to the address that it was loaded from."""
    text = folder.joinpath("index.html").read_text("utf8")
    return HTMLResponse(FOREIGN_SCRIPTS.sub("", text).replace("</head>", ADDED, 1))


async def forward(browser: WebSocket, port: int) -> None:
    """Passes messages between a browser and the viewer's server, until either disconnects.

    Args:
        browser: The browser's connection, not yet accepted.
        port: The port of the viewer's server on this machine.
    """
    await browser.accept()
    try:
        address = f"ws://127.0.0.1:{port}"
        async with connect(address, max_size=None, compression=None, open_timeout=CONNECT_SECONDS) as viewer:
            ends = [asyncio.create_task(_to_viewer(browser, viewer)), asyncio.create_task(_to_browser(viewer, browser))]
            _, others = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
    except (OSError, InvalidHandshake, TimeoutError):
        pass  # the viewer has not started yet, or has just ended; viser's page tries again
    try:
        await browser.close(CLOSED_HERE)
    except (RuntimeError, WebSocketDisconnect):
        pass  # the browser has closed it already


async def _to_viewer(browser: WebSocket, viewer: ClientConnection) -> None:
    try:
        while True:
            message: dict[str, Any] = dict(await browser.receive())
            if message["type"] == "websocket.disconnect":
                return
            await viewer.send(message.get("bytes") or message.get("text") or b"")
    except ConnectionClosed:
        return


async def _to_browser(viewer: ClientConnection, browser: WebSocket) -> None:
    try:
        async for message in viewer:
            if isinstance(message, bytes):
                await browser.send_bytes(message)
            else:
                await browser.send_text(message)
    except (ConnectionClosed, WebSocketDisconnect, RuntimeError):
        return
