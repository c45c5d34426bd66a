# SPDX-License-Identifier: Apache-2.0
"""The bar on a terminal estimates the time left, however long an item takes."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from img3d_base import progress
from img3d_base.progress import with_progress


def test_the_bar_shows_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, printed = [0.0], io.StringIO()
    console = Console(file=printed, force_terminal=True, width=100, get_time=lambda: now[0])
    monkeypatch.setattr(progress, "CONSOLE", console)
    for _ in with_progress(range(4), "Painting", 4):
        now[0] += 240
        time.sleep(0.25)  # a thread draws the bar
    plain = re.sub("\x1b\\[[0-9;]*m", "", printed.getvalue())
    assert re.search(r"Painting .* [23]/4 0:\d\d:00 left", plain)
    assert "4/4 0:00:00 left" in plain
