# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, and an occasional line if the output goes to a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from img3d_base.console import CONSOLE, print_line

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0
"""Shortest time between two lines; work that takes less prints none."""


class ProgressLines:
    """Prints lines where the output is not a terminal, at most one every `SECONDS_BETWEEN_LINES`."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, message: str, always: bool = False) -> None:
        """Prints a line, unless the last one is too recent.

        Args:
            message: The line.
            always: Whether to print it however recent the last one is.
        """
        if CONSOLE.is_terminal or not (always or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES):
            return
        print_line(message)
        self._last = time.monotonic()


def with_progress(items: Iterable[T], description: str, total: int | None) -> Generator[T, None, None]:
    """Yields the items one by one, and shows how many have been processed and how long the others will take.

    The estimate is the mean over all items so far: one item may take longer than the period that rich looks at.

    Args:
        items: The items to process.
        description: What is being done, such as "Matching photos".
        total: The number of items, if it is known.
    """
    if CONSOLE.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        options: dict[str, Any] = {"console": CONSOLE, "transient": True, "speed_estimate_period": float("inf")}
        with Progress(*columns, TextColumn("left"), **options) as progress:
            yield from progress.track(items, total=total, description=description)
        return
    lines, start = ProgressLines(), time.monotonic()
    for done, item in enumerate(items):
        if total and done:
            left = (time.monotonic() - start) / done * (total - done)
            lines.say(f"{description}: {done:,} of {total:,} ({done / total:.0%}), about {duration(left)} left")
        else:
            lines.say(f"{description}: {done:,}")
        yield item


def duration(seconds: float) -> str:
    """A duration in words: "45 s", "3 min 20 s" or "2 h 5 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class ProgressOfStages:
    """Shows a bar for each stage of work that calls back before each of its items.

    Use it as a context manager: leaving it ends the last bar.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Generator[int, None, None] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Notes that an item begins.

        Args:
            stage: What is being done.
            done: The number of items before it.
            total: The number of items of the stage.
        """
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, with_progress(range(done, total), stage, total - done)
        if self._bar is not None:
            next(self._bar, None)

    def close(self) -> None:
        """Ends the current stage's bar."""
        if self._bar is not None:
            self._bar.close()
        self._stage, self._bar = "", None

    def __enter__(self) -> ProgressOfStages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
