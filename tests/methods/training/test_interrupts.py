# SPDX-License-Identifier: Apache-2.0
"""The first Ctrl-C or SIGTERM asks, the second insists, and afterwards both are what they were."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from img3d_base.signals import Terminated
from img3d_methods.training.interrupts import InterruptRequest


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_is_noted_and_the_second_raises() -> None:
    with InterruptRequest() as interrupt:
        assert not interrupt.received
        press_ctrl_c()
        assert interrupt.received and interrupt.exit_status == 130
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_sigterm_is_a_request_as_well() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with InterruptRequest() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.received and interrupt.exit_status == 143
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_usual_meaning_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with InterruptRequest():
        press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with InterruptRequest() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.received))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
