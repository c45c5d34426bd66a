# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C as a request that the training loop handles between two steps, when the model is consistent."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from img3d_base.signals import INTERRUPTED, TERMINATED, raise_terminated


class InterruptRequest:
    """While active, the first Ctrl-C or SIGTERM only sets `received`; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received = False
        self.exit_status = INTERRUPTED
        """Exit status of the program if the request ends it."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> InterruptRequest:
        if threading.current_thread() is threading.main_thread():  # handlers can only be set there
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self.exit_status = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, raise_terminated)
