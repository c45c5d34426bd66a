# SPDX-License-Identifier: Apache-2.0
"""Progress in a pipe: lines that say how far it is, no more often than people read them."""

from __future__ import annotations

import pytest

from img3d_base import progress
from img3d_base.errors import counted
from img3d_base.progress import ProgressLines, duration, with_progress


class Clock:
    """Stands for the module `time`; each item takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for item in with_progress(range(2000, 2040), "Matching photos", 40):
        seen.append(item)
        clock.now += 1
    assert seen == list(range(2000, 2040))
    said = capsys.readouterr().out.splitlines()
    assert said == [f"Matching photos: {n} of 40 ({n / 40:.0%}), about {40 - n} s left" for n in (10, 20, 30)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3700, "1 h 1 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in with_progress(range(9), "Checking photos", 9):
        clock.now += 1
    assert capsys.readouterr().out == ""


def test_without_a_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in with_progress(range(8190), "Looking for views", None):
        clock.now += 2**-8
    assert capsys.readouterr().out == "Looking for views: 2,560\nLooking for views: 5,120\nLooking for views: 7,680\n"


def test_stages_are_always_said(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines()
    lines.say("global mapper", always=True)
    lines.say("1 of 9")
    clock.now += 11
    lines.say("5 of 9")
    assert capsys.readouterr().out == "global mapper\n5 of 9\n"


def test_counts_agree_with_their_nouns() -> None:
    assert counted(1, "photo") == "1 photo" and counted(0, "photo") == "0 photos"
    assert counted(1200, "box", "boxes") == "1,200 boxes" and counted(1, "box", "boxes") == "1 box"


def test_a_long_time_is_said_in_minutes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in with_progress(range(5), "Painting", 5):
        clock.now += 60
    assert capsys.readouterr().out.startswith("Painting: 1 of 5 (20%), about 4 min 0 s left\n")
