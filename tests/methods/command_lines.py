# SPDX-License-Identifier: Apache-2.0
"""Runs Nerfstudio's real commands in processes of their own, without a network."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from hang_limit import HANG_SECONDS

COMMANDS = Path(sys.executable).parent
SMALL = (
    *("--pipeline.model.num-random", "2000", "--pipeline.model.max-gaussians", "4000"),
    *("--pipeline.model.strategy", "mcmc", "--pipeline.model.random-init", "True"),
)
"""A model that suits a dozen photos of 64 x 48 pixels: splitting overfits them, stereo would give all 4000 at once."""


@dataclass
class Result:
    """What a command left."""

    code: int
    output: str
    """stdout and stderr, in order."""

    @property
    def last_line(self) -> str:
        return [line for line in self.output.splitlines() if line.strip()][-1].strip()


class CommandLine:
    """Commands with their output under one folder.

    Args:
        folder: Where they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network_log = folder / "network.log"
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "offline"), os.environ.get("PYTHONPATH", "")]),
            "IMG3D_TEST_NETWORK_LOG": str(self.network_log),
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "WANDB_MODE": "offline",
            "TORCH_HOME": str(folder / "empty_torch_cache"),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }

    def start(self, *arguments: object, prefix: tuple[str, ...] = ()) -> Running:
        """Start `ns-…` with these arguments."""
        name, *rest = map(str, arguments)
        return Running(
            subprocess.Popen(
                [*prefix, str(COMMANDS / name), *rest],
                cwd=self.folder,
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )

    def run(self, *arguments: object, prefix: tuple[str, ...] = ()) -> Result:
        """Run it to its end, and check that it left the network alone."""
        result = self.start(*arguments, prefix=prefix).finish()
        assert not self.network_log.exists(), f"reached for the network: {self.network_log.read_text()}"
        return result

    def succeed(self, *arguments: object) -> Result:
        """Run it; it has to succeed."""
        result = self.run(*arguments)
        assert result.code == 0, result.output[-3000:]
        assert "Traceback" not in result.output
        return result

    def train(self, data: Path, timestamp: str, *options: object, vis: str = "tensorboard") -> tuple[object, ...]:
        """Arguments of a short ns-train run that goes to outputs/scene/img3d-splat/<timestamp>."""
        return (
            *("ns-train", "img3d-splat", "--data", data, "--experiment-name", "scene", "--timestamp", timestamp),
            *("--output-dir", self.folder / "outputs", "--vis", vis, *SMALL, *options),
        )

    def run_folder(self, timestamp: str) -> Path:
        """Where `train` puts its run."""
        return self.folder / "outputs" / "scene" / "img3d-splat" / timestamp


class Running:
    """A command that has not ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""

    def wait_for(self, pattern: str) -> None:
        """Read on until a line matches."""
        assert self.process.stdout is not None
        hung = threading.Timer(HANG_SECONDS, self.kill)
        hung.start()
        try:
            for line in self.process.stdout:
                self.output += line
                if re.search(pattern, line):
                    return
        finally:
            hung.cancel()
        raise AssertionError(f"ended without {pattern!r}:\n{self.output[-3000:]}")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Ctrl-C, or another signal."""
        os.killpg(self.process.pid, number)

    def finish(self) -> Result:
        """Wait for the end."""
        try:
            rest, _ = self.process.communicate(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
            raise
        return Result(self.process.returncode, self.output + rest)

    def stop(self) -> int:
        """End it (SIGTERM); its exit status."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait(timeout=HANG_SECONDS)

    def kill(self) -> None:
        """End it whatever it does (SIGKILL)."""
        os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class TrainedRun:
    """A finished `ns-train img3d-splat` of the tiny scene."""

    cli: CommandLine
    data: Path
    folder: Path
    output: str
    steps: int

    @property
    def config(self) -> Path:
        return self.folder / "config.yml"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "nerfstudio_models" / f"step-{self.steps - 1:09d}.ckpt"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
