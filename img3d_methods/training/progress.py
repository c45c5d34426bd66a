# SPDX-License-Identifier: Apache-2.0
"""How much of its time a run has used, in a line of text for people who watch it."""

from __future__ import annotations

import time

from img3d_methods.training.clock import TrainingClock


class TrainingProgress:
    """Fed by the training loop."""

    def __init__(self) -> None:
        self._clock: TrainingClock | None = None
        self._step = 0
        self._seconds = 0.0
        self._last: float | None = None

    def begin(self, clock: TrainingClock) -> None:
        """A run begins, or goes on, whose trainer feeds this clock."""
        self._clock = clock

    def record(self, step: int) -> None:
        """`step` has ended."""
        now = time.monotonic()
        if self._clock is not None and self._last is not None:
            self._seconds += now - self._last
        self._step, self._last = step, now

    def lines(self) -> list[str]:
        """Markdown; nothing where nothing is trained."""
        if self._clock is None or self._last is None:
            return []
        left = self._clock.remaining(self._step)
        return [f"**Time** {readable(self._seconds)} used, {readable(left)} left"]


def readable(seconds: float) -> str:
    """A duration as people say it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
