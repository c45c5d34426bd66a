# SPDX-License-Identifier: Apache-2.0
"""Elapsed and remaining time of a run, as a line of text."""

from __future__ import annotations

import time

from img3d_base.progress import duration
from img3d_methods.training.clock import TrainingClock


class TrainingProgress:
    """Measures the time of a run; the training loop calls it."""

    def __init__(self) -> None:
        self._clock: TrainingClock | None = None
        self._step = 0
        self._seconds = 0.0
        self._last: float | None = None

    def begin(self, clock: TrainingClock) -> None:
        """Starts measuring; the run's trainer feeds `clock`."""
        self._clock = clock

    def record(self, step: int) -> None:
        """Notes that `step` has ended."""
        now = time.monotonic()
        if self._clock is not None and self._last is not None:
            self._seconds += now - self._last
        self._step, self._last = step, now

    def lines(self) -> list[str]:
        """Lines of Markdown; empty if nothing is trained."""
        if self._clock is None or self._last is None:
            return []
        left = self._clock.remaining(self._step)
        return [f"**Time** {duration(self._seconds)} used, {duration(left)} left"]
