# SPDX-License-Identifier: Apache-2.0
"""Progress of long generations: a bar with the time left in a terminal, a line now and then in a log."""

from __future__ import annotations

import io
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


def console(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    """What is printed from now on."""
    printed = io.StringIO()
    monkeypatch.setattr(module, "CONSOLE", Console(file=printed, force_terminal=terminal, width=100))
    return printed


def test_a_log_gets_a_line_every_half_minute(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    printed = console(monkeypatch, terminal=False)
    for _ in steps_with_eta(range(10), "Painting"):
        clock[0] += 20
    assert printed.getvalue().splitlines() == [
        "Painting: 2 of 10 steps, about 3 min left",
        "Painting: 4 of 10 steps, about 2 min left",
        "Painting: 6 of 10 steps, about 80 s left",
        "Painting: 8 of 10 steps, about 40 s left",
    ]


def test_a_short_one_says_nothing_in_a_log(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    printed = console(monkeypatch, terminal=False)
    assert list(steps_with_eta(range(3, 6))) == [3, 4, 5]
    assert printed.getvalue() == ""


def test_a_terminal_gets_a_bar_with_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = console(monkeypatch, terminal=True)
    assert list(steps_with_eta(range(4), "Painting")) == [0, 1, 2, 3]
    assert "Painting" in printed.getvalue() and "4/4" in printed.getvalue()
