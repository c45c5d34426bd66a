# SPDX-License-Identifier: Apache-2.0
"""SIGTERM, with which systems end a program, handled as Ctrl-C is: one line, nothing half written, exit status 143."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses after Ctrl-C and after SIGTERM, as shells have them: 128 and the signal's number."""


class Terminated(KeyboardInterrupt):
    """SIGTERM; a KeyboardInterrupt, so that whatever cleans up after Ctrl-C also cleans up after this."""


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status of a program that was ended by this."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """A handler of SIGTERM."""
    raise Terminated


@contextmanager
def sigterm_raises() -> Generator[None, None, None]:
    """While active, SIGTERM raises `Terminated` in the main thread. Elsewhere Python allows no handlers: no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def sigterm_kept() -> Generator[None, None, None]:
    """For the import of a library that replaces the handler of SIGTERM behind Python's back: puts it back."""
    yield
    handler = signal.getsignal(signal.SIGTERM)  # as Python knows it
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
