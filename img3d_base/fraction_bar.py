# SPDX-License-Identifier: Apache-2.0
"""Progress of work that says how much of it is done: a bar on a terminal, else an occasional line."""

from __future__ import annotations

import time

from rich.progress import BarColumn, Progress, TextColumn

from img3d_base.console import CONSOLE
from img3d_base.progress import ProgressLines, duration


class FractionBar:
    """Shows a fraction and the time left; a context manager, whose end removes the bar.

    Args:
        description: What is being done, such as "Downloading".
    """

    def __init__(self, description: str) -> None:
        self._description = description
        self._start = time.monotonic()
        self._lines = ProgressLines()
        self._progress: Progress | None = None

    def __enter__(self) -> FractionBar:
        if CONSOLE.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            self._progress = Progress(*columns, console=CONSOLE, transient=True)
            self._task = self._progress.add_task(self._description, total=None, note="")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show(self, fraction: float | None, note: str = "", seconds_left: float | None = None) -> None:
        """Shows how far the work is.

        Args:
            fraction: What is done, from 0 to 1; None if that is not known.
            note: What is going on, in a few words.
            seconds_left: The time left, if something better than an extrapolation is known.
        """
        elapsed = time.monotonic() - self._start
        if seconds_left is None and fraction and elapsed > 1:
            seconds_left = elapsed * (1 - fraction) / fraction
        words = [note, "" if fraction is None else f"{fraction:.0%}"]
        if seconds_left is not None and (fraction is None or fraction < 1):
            words.append(f"about {duration(seconds_left)} left")
        elif fraction is None:
            words.append(f"for {duration(elapsed)}")
        text = ", ".join(filter(None, words))
        if self._progress is not None:
            total = None if fraction is None else 1.0
            self._progress.update(self._task, total=total, completed=fraction or 0.0, note=text)
        else:
            self._lines.say(f"{self._description}: {text}")
