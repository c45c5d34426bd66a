# SPDX-License-Identifier: Apache-2.0
"""Progress of long work: a bar on a terminal, and an occasional line if the output goes to a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track

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


def with_progress(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    """Yields the items one by one, and shows how many have been processed.

    Args:
        items: The items to process.
        description: What is being done, such as "Matching photos".
        total: The number of items, if it is known.
    """
    if CONSOLE.is_terminal:
        yield from track(items, description, total=total, console=CONSOLE, transient=True)
        return
    lines = ProgressLines()
    for done, item in enumerate(items):
        of_total = f"{done:,} of {total:,} ({done / total:.0%})" if total else f"{done:,}"
        lines.say(f"{description}: {of_total}")
        yield item
