# SPDX-License-Identifier: Apache-2.0
"""Progress of long generations: a bar with the time left in a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from img3d_generators import progress as module
from img3d_generators.progress import steps_with_eta


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, in a list of one; the tests move it."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    yield now


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed to a file."""
    printed = io.StringIO()
    monkeypatch.setattr(module, "CONSOLE", Console(file=printed, force_terminal=False, width=100))
    return printed


def test_a_log_gets_a_line_every_half_minute(log: io.StringIO, clock: list[float]) -> None:
    for _ in steps_with_eta(range(10), "Painting"):
        clock[0] += 20
    assert log.getvalue().splitlines() == [
        "Painting: 2 of 10 steps, about 3 min left",
        "Painting: 4 of 10 steps, about 2 min left",
        "Painting: 6 of 10 steps, about 80 s left",
        "Painting: 8 of 10 steps, about 40 s left",
    ]


def test_a_short_one_says_nothing_in_a_log(log: io.StringIO, clock: list[float]) -> None:
    assert list(steps_with_eta(range(3, 6))) == [3, 4, 5]
    assert log.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_time_left_however_long_a_step_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, printed = [0.0], io.StringIO()
    monkeypatch.setattr(
        module, "CONSOLE", Console(file=printed, force_terminal=True, width=100, get_time=lambda: now[0])
    )
    for _ in steps_with_eta(range(4), "Painting"):
        now[0] += 240
        time.sleep(0.25)  # a thread draws the bar
    plain = re.sub("\x1b\\[[0-9;]*m", "", printed.getvalue())
    assert re.search(r"Painting .* [23]/4 0:\d\d:00 left", plain)
    assert "4/4 0:00:00 left" in plain
