# SPDX-License-Identifier: Apache-2.0
"""The viewer's connection to a page that reads slowly."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import viser
from command_lines import free_port
from hang_limit import HANG_SECONDS
from viser import _messages as messages
from websockets.sync.client import connect

NUM_PICTURES = 5


def test_it_lasts_while_much_is_sent_to_all_pages_and_to_one() -> None:
    """viser sends both at once, which websockets' server allows up to 15 (pyproject.toml): later ones hang up."""
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)
    clients: list[viser.ClientHandle] = []
    server.on_client_connect(clients.append)
    camera = messages.ViewerCameraMessage((1.0, 0, 0, 0), (0.0, 0, 5), 1.0, 1.5, (0.0, 0, 0), (0.0, 0, 1))
    try:
        with connect(f"ws://127.0.0.1:{server.get_port()}", max_size=None, max_queue=1) as page:
            page.send(msgspec.msgpack.encode(camera.as_serializable_dict()))
            deadline = time.monotonic() + HANG_SECONDS
            while not clients:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            for i in range(NUM_PICTURES):
                server.scene.add_image(f"/to_all_{i}", noise, 1.0, 1.0, format="png")
                clients[0].scene.add_image(f"/to_one_{i}", noise, 1.0, 1.0, format="png")
                time.sleep(0.1)
            seen: set[str] = set()
            while len(seen) < 2 * NUM_PICTURES:
                for message in msgspec.msgpack.decode(page.recv(timeout=HANG_SECONDS)):
                    seen |= named(message)
    finally:
        server.stop()


def named(message: dict[str, Any]) -> set[str]:
    """The picture in a message, if there is one."""
    return {message["name"]} if message.get("name", "").startswith(("/to_all", "/to_one")) else set()
