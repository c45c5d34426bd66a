# SPDX-License-Identifier: Apache-2.0
"""How far work has come: a bar on a terminal, and a line now and then where the output goes to a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import track

from img3d_base.console import CONSOLE

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0
"""Work that takes less prints no line."""


class ProgressLines:
    """Prints what it is told where there is no terminal, unless the last line is too recent."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, message: str, always: bool = False) -> None:
        """Prints a line.

        Args:
            message: the line.
            always: whether to print it however recent the last one is.
        """
        if CONSOLE.is_terminal or not (always or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES):
            return
        CONSOLE.print(message, markup=False, highlight=False, soft_wrap=True)
        self._last = time.monotonic()


def with_progress(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    """The items, one by one, while it is shown how many of them have been dealt with.

    Args:
        items: what is dealt with.
        description: what is being done, such as "Matching photos".
        total: how many items there are, if that is known.
    """
    if CONSOLE.is_terminal:
        yield from track(items, description, total=total, console=CONSOLE, transient=True)
        return
    lines = ProgressLines()
    for done, item in enumerate(items):
        of_total = f"{done:,} of {total:,} ({done / total:.0%})" if total else f"{done:,}"
        lines.say(f"{description}: {of_total}")
        yield item
