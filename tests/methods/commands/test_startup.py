# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM from the moment on when Python starts a command, before anything of ours or torch is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hang_limit import HANG_SECONDS

from img3d_methods.commands.startup import OWN_COMMANDS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal for a child process")

WAITING = """
import os, signal, sys, time
{before}
print("waiting", *sorted({{"torch", "rich", "numpy", "tyro"}} & set(sys.modules)), flush=True)
time.sleep(600)
"""
HEEDS_CTRL_C = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # which a shell's background jobs do not
FORKS = """
child = os.fork()
if child == 0:
    time.sleep(600)
time.sleep(0.1)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def ended_by(number: signal.Signals, folder: Path, name: str, *options: str, before: str = "") -> tuple[int, str, str]:
    """Exit status and output of a program of this name that gets a signal where it would import its libraries."""
    script = folder / name
    script.write_text(WAITING.format(before=f"{HEEDS_CTRL_C}\n{before}"))
    process = subprocess.Popen(
        [sys.executable, *options, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = ""
    while not first.endswith("waiting\n"):
        first += (line := process.stdout.readline())
        assert line, "it ended by itself"
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, first + output, errors


@pytest.mark.parametrize(("name", "status", "says"), [("ns-train", 141, ""), ("something", 1, "BrokenPipeError")])
def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, name: str, status: int, says: str) -> None:
    """As `ns-train img3d-splat --help | head`."""
    script = tmp_path / name
    script.write_text("while True: print('a line', flush=True)")
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=HANG_SECONDS) == status
    assert errors == "" if not says else says in errors


@pytest.mark.parametrize("name", ["ns-eval", "ns-train", "ns-viewer", "img3d-export"])
def test_ctrl_c_is_one_line(tmp_path: Path, name: str) -> None:
    # As Python ends after Ctrl-C: shells make 130 of it.
    assert ended_by(signal.SIGINT, tmp_path, name) == (-signal.SIGINT, "waiting\nInterrupted.\n", "")


@pytest.mark.parametrize("name", ["ns-eval", "ns-viewer", "img3d-export"])
def test_sigterm_is_one_line(tmp_path: Path, name: str) -> None:
    assert ended_by(signal.SIGTERM, tmp_path, name) == (143, "waiting\nInterrupted.\n", "")


def test_nerfstudios_training_is_ended_at_once(tmp_path: Path) -> None:
    assert ended_by(signal.SIGTERM, tmp_path, "ns-train") == (-signal.SIGTERM, "waiting\n", "")


@pytest.mark.parametrize("name", ["ns-process-data", "anything"])
def test_other_programs_are_left_alone(tmp_path: Path, name: str) -> None:
    assert ended_by(signal.SIGTERM, tmp_path, name) == (-signal.SIGTERM, "waiting\n", "")
    status, output, errors = ended_by(signal.SIGINT, tmp_path, name)
    assert (status, output) == (-signal.SIGINT, "waiting\n") and "Traceback" in errors


def test_who_develops_gets_the_traceback(tmp_path: Path) -> None:
    status, output, errors = ended_by(signal.SIGINT, tmp_path, "ns-eval", "-X", "dev")
    assert (status, output) == (-signal.SIGINT, "waiting\n") and "KeyboardInterrupt" in errors


def test_processes_that_it_forks_end_as_before(tmp_path: Path) -> None:
    status, output, errors = ended_by(signal.SIGTERM, tmp_path, "ns-eval", before=FORKS)
    assert (status, output, errors) == (143, f"{-signal.SIGTERM}\nwaiting\nInterrupted.\n", "")


def test_all_our_commands_are_looked_after() -> None:
    scripts = distribution("img3d").entry_points.select(group="console_scripts")
    assert scripts.names == set(OWN_COMMANDS)
