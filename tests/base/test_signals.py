# SPDX-License-Identifier: Apache-2.0
"""SIGTERM ends a command in one line with status 143, whatever libraries it has loaded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hang_limit import HANG_SECONDS

from img3d_base.signals import Terminated, sigterm_kept, sigterm_raises, status_of

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for a child process")

WAITING_COMMAND = """
import time
from img3d_base.errors import exits_with_one_line
with exits_with_one_line("Interrupted; what is finished is kept."):
    from img3d_dataparsers.sfm.colmap_library import pycolmap
    try:
        print("waiting", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up")
"""
BARE_PROGRAM = """
import time
from img3d_dataparsers.sfm.colmap_library import pycolmap
print("waiting", flush=True)
time.sleep(600)
"""


def terminated(program: str) -> tuple[int, str, str]:
    """Exit status and output of a Python program that gets SIGTERM once it has printed a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.terminate()
    output, errors = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, first + output, errors


@posix_only
def test_a_command_ends_in_one_line_after_its_clean_up() -> None:
    assert terminated(WAITING_COMMAND) == (143, "waiting\ncleaned up\nInterrupted; what is finished is kept.\n", "")


@posix_only
def test_elsewhere_sigterm_is_what_it_was_before_colmap_was_loaded() -> None:
    assert terminated(BARE_PROGRAM) == (-signal.SIGTERM, "waiting\n", "")


def test_sigterm_raises_and_then_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as terminated, sigterm_raises():
        os.kill(os.getpid(), signal.SIGTERM)
    assert status_of(terminated.value) == 143 and status_of(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_kept_handler_is_installed_again() -> None:
    with sigterm_raises():
        inside = signal.getsignal(signal.SIGTERM)
        with sigterm_kept():
            pass
        assert signal.getsignal(signal.SIGTERM) is inside
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
