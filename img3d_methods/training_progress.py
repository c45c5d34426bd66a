# SPDX-License-Identifier: Apache-2.0
"""How a run is going, in a few lines of text for people who watch it: quality so far, time used and left."""

from __future__ import annotations

import time
from collections.abc import Callable

from img3d_methods.training_clock import TrainingClock

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 32


class TrainingProgress:
    """Fed by the training loop."""

    def __init__(self) -> None:
        self._clock: TrainingClock | None = None
        self._step = 0
        self._seconds = 0.0
        self._last: float | None = None
        self._psnr: list[float] = []

    def begin(self, max_steps: int, downscale_at: Callable[[int], int]) -> None:
        """A run of `max_steps` begins, or goes on; at a step, images are reduced by `downscale_at(step)`: 1, 2, 4, …"""
        self._clock = TrainingClock(downscale_at, max_steps)

    def record(self, step: int) -> None:
        """`step` has ended."""
        now = time.monotonic()
        if self._clock is not None and self._last is not None:
            self._seconds += now - self._last
            self._clock.record(step, now - self._last)
        self._step, self._last = step, now

    def record_psnr(self, psnr: float) -> None:
        """A training view was measured, in dB."""
        self._psnr.append(psnr)

    def lines(self) -> list[str]:
        """Markdown; nothing where nothing is trained."""
        lines = []
        if self._psnr:
            lines.append(f"**Training PSNR** {self._psnr[-1]:.1f} dB `{bars(self._psnr)}`")
        if self._clock is not None and self._last is not None:
            left = self._clock.remaining(self._step)
            lines.append(f"**Time** {readable(self._seconds)} used, {readable(left)} left")
        return lines


def bars(values: list[float]) -> str:
    """A chart one line high of at most `MOST_BARS` bars, each the mean of its part of the values."""
    count = min(len(values), MOST_BARS)
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:], strict=False)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1) * (len(BARS) - 1))] for mean in means)


def readable(seconds: float) -> str:
    """A duration as people say it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
