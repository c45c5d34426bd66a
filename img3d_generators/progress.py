# SPDX-License-Identifier: Apache-2.0
"""How far a long generation is, and how long it will take: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from img3d_base.console import CONSOLE

SECONDS_BETWEEN_LINES = 30.0


def steps_with_eta(steps: range, description: str = "Painting the six views") -> Iterator[int]:
    """The steps, with the progress shown between them.

    Args:
        steps: what to count.
        description: what is being done.
    """
    if CONSOLE.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ever = float("inf")  # by itself it forgets what is older than half a minute, which a step can take
        with Progress(*columns, TextColumn("left"), console=CONSOLE, speed_estimate_period=ever) as progress:
            yield from progress.track(steps, description=description)
        return
    start = said = time.monotonic()
    for step in steps:
        yield step
        now, done = time.monotonic(), step - steps.start + 1
        if now - said >= SECONDS_BETWEEN_LINES and done < len(steps):
            left = (now - start) / done * (len(steps) - done)
            CONSOLE.print(f"{description}: {done} of {len(steps)} steps, about {_minutes(left)} left", highlight=False)
            said = now


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
