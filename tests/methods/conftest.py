# SPDX-License-Identifier: Apache-2.0
"""Tests of the methods run as training does: torch on one thread, our kernels on all. And one trained run for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import viser
from command_lines import CommandLine, TrainedRun, free_port

from img3d_methods.training.threads import leave_threads_to_kernels

leave_threads_to_kernels()


@pytest.fixture(scope="session")
def trained_run(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """Trained once, for 1200 steps; tests must not change it."""
    cli = CommandLine(tmp_path_factory.mktemp("runs"))
    result = cli.succeed(*cli.train(tiny_scene, "first", "--max-num-iterations", 1200, "--steps-per-save", 500))
    return TrainedRun(cli, tiny_scene, cli.run_folder("first"), result.output, steps=1200)


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """Commands in a folder of the test's own."""
    return CommandLine(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that lets time pass for what looks at `time.monotonic`."""
    offset, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + offset[0])

    def pass_time(seconds: float) -> None:
        offset[0] += seconds

    return pass_time


@pytest.fixture
def viser_server() -> Iterator[viser.ViserServer]:
    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    yield server
    server.stop()
