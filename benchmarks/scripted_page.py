# SPDX-License-Identifier: Apache-2.0
"""The viewer's page without a browser: speaks viser's protocol, draws nothing, and so costs next to nothing itself.

    python benchmarks/scripted_page.py PORT draws|renders still|dragged

Prints a line as soon as it has been sent something to show; ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import msgspec
import numpy as np
from scipy.spatial.transform import Rotation
from viser import _messages as messages
from websockets.sync.client import connect

CHECKBOX = "Draw splats in the browser"
FRAME_SECONDS = 1 / 60


def viewpoint(angle: float) -> messages.ViewerCameraMessage:
    """The page's camera on a circle around the scene."""
    position = (8 * np.cos(angle), 8 * np.sin(angle), 3.0)
    # OpenCV axes: right, down, forward.
    forward = -np.array(position) / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)
    wxyz = tuple(Rotation.from_matrix(axes).as_quat(scalar_first=True).tolist())
    return messages.ViewerCameraMessage(wxyz, position, 1.0, 16 / 9, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def watch(port: int, draws: bool, moves: bool, closed: threading.Event) -> None:
    """What a page does: shows its camera, reads all that comes, ticks a box; until `closed`.

    Args:
        port: The viewer's, on this machine.
        draws: Whether the page draws splats itself; else the trainer's pictures are asked for.
        moves: Whether the camera goes on moving, 60 times a second.
        closed: Set by another thread.
    """
    shown = "GaussianSplats" if draws else "BackgroundImage"
    with connect(f"ws://127.0.0.1:{port}", max_size=None) as socket:

        def send(message: Any) -> None:
            socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

        send(viewpoint(0.0))
        ticked, told, angle = False, False, 0.0
        while not closed.is_set():
            try:
                for message in msgspec.msgpack.decode(socket.recv(timeout=FRAME_SECONDS, decode=False)):
                    if not ticked and message.get("props", message).get("label") == CHECKBOX:
                        # The box is everybody's: it is as the last page left it.
                        send(messages.GuiUpdateMessage(message.get("uuid") or message["id"], {"value": draws}))
                        ticked = True
                    if not told and ticked and shown in message["type"]:
                        print("shown", flush=True)
                        told = True
            except TimeoutError:
                pass
            if moves:
                angle += 0.01
                send(viewpoint(angle))


def main() -> None:
    """Watch until standard input ends."""
    port, draws, moves = sys.argv[1:]
    closed = threading.Event()
    thread = threading.Thread(target=watch, args=(int(port), draws == "draws", moves == "dragged", closed))
    thread.start()
    sys.stdin.read()
    closed.set()
    thread.join()


if __name__ == "__main__":
    main()
