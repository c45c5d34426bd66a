# SPDX-License-Identifier: Apache-2.0
"""A studio whose programs are short stand-ins, and what a user does with it."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hang_limit import HANG_SECONDS
from PIL import Image
from starlette.testclient import TestClient

from img3d_studio.app import create_app
from img3d_studio.job_queue import JobQueue
from img3d_studio.store import Store

FAKE = Path(__file__).with_name("fake_programs.py")


def picture(color: str = "red") -> bytes:
    """A small JPEG."""
    content = io.BytesIO()
    Image.new("RGB", (32, 24), color).save(content, "JPEG")
    return content.getvalue()


class FakeStudio:
    """A studio, and what a user does with it.

    Args:
        folder: Of its runs.
        token: As for `create_app`.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        self.store = Store(folder)
        self.queue = JobQueue(self.store, lambda name: [sys.executable, str(FAKE), name])
        self.client = TestClient(create_app(self.store, self.queue, token), base_url="http://127.0.0.1:7010")

    def draft(self, num_photos: int = 3) -> str:
        """A run with photos, not yet begun; its name."""
        run = self.client.post("/api/runs").json()["id"]
        for index in range(num_photos):
            assert self.put(run, f"photo {index}.jpg", picture()).status_code == 201
        return run

    def put(self, run: str, name: str, content: bytes) -> Any:
        """Uploads a file."""
        return self.client.put(f"/api/runs/{run}/input/{name}", content=content)

    def folder_of(self, run: str) -> Path:
        """The folder of a run."""
        return self.store.run_folder(run)

    def begin(self, run: str, choice: str = "splats-fast") -> None:
        """Begins to make it."""
        answer = self.client.post(f"/api/runs/{run}/start", json={"choice": choice})
        assert answer.status_code == 200, answer.text

    def show(self, run: str) -> dict[str, Any]:
        """A run as the page gets it."""
        return self.client.get(f"/api/runs/{run}").json()

    def wait(self, run: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Waits until a run looks so."""
        deadline = time.monotonic() + HANG_SECONDS
        while not reached(shown := self.show(run)):
            assert time.monotonic() < deadline, shown
            time.sleep(0.02)
        return shown
