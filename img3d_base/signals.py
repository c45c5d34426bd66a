# SPDX-License-Identifier: Apache-2.0
"""SIGTERM handled as Ctrl-C is: one line, nothing half written, exit status 143; a closed output without a line."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType, TracebackType

INTERRUPTED, TERMINATED, PIPE_CLOSED = 130, 143, 141
"""Exit statuses after Ctrl-C, SIGTERM and SIGPIPE: 128 plus the signal's number, as shells report it."""


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM. A KeyboardInterrupt, so that whatever cleans up after Ctrl-C does so after SIGTERM too."""


def status_of(interrupt: KeyboardInterrupt) -> int:
    """The exit status of a program that an interrupt ended."""
    return TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED


def raise_terminated(number: int, frame: FrameType | None) -> None:
    """Signal handler for SIGTERM."""
    raise Terminated


@contextmanager
def sigterm_raises() -> Generator[None, None, None]:
    """While active, SIGTERM raises `Terminated`. No effect outside the main thread, where Python allows no handlers."""
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
    """Restores the handler of SIGTERM after the import of a library that replaces it at the C level."""
    yield
    handler = signal.getsignal(signal.SIGTERM)  # the one that Python knows of
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def output_is_closed() -> bool:
    """Whether the program that read this one's output through a pipe has ended, as `head` does after ten lines."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def report_interrupts(sigterm: bool) -> None:
    """Makes an uncaught Ctrl-C end this program with one line instead of a traceback, and a closed output with none.

    Under `python -X dev` the traceback stays.

    Args:
        sigterm: Whether SIGTERM does so as well, with exit status 143. Forked child processes keep the default action,
            and end without a message.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, BrokenPipeError) and output_is_closed() and not sys.flags.dev_mode:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what Python flushes at exit
            raise SystemExit(PIPE_CLOSED)
        if not isinstance(error, KeyboardInterrupt) or sys.flags.dev_mode:
            previous(kind, error, traceback)
            return
        print("Interrupted.", flush=True)
        if isinstance(error, Terminated):  # after Ctrl-C, Python itself sets the exit status
            raise SystemExit(TERMINATED)

    hook.reports_interrupts = True  # pyright: ignore[reportFunctionMemberAccess]
    if not hasattr(previous, "reports_interrupts"):
        sys.excepthook = hook
    if sigterm and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, raise_terminated)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_default_sigterm)


def _default_sigterm() -> None:
    if signal.getsignal(signal.SIGTERM) is raise_terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
