# SPDX-License-Identifier: Apache-2.0
"""Bad input through the real commands: one line that says what to do, a non-zero exit status, nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from command_lines import CommandLine, Result, TrainedRun

pytestmark = pytest.mark.slow


def assert_one_line(result: Result, *parts: str) -> None:
    assert result.code == 1, result.output[-2000:]
    assert "Traceback" not in result.output
    assert result.last_line.startswith("Error: ")
    for part in parts:
        assert part in result.last_line


def test_no_such_folder(cli: CommandLine) -> None:
    result = cli.run("ns-train", "img3d-splat", "--data", cli.folder / "nowhere")
    assert_one_line(result, "nowhere", "--data")
    assert [path for path in cli.folder.rglob("*") if path.is_file()] == []


def test_a_folder_without_images(cli: CommandLine) -> None:
    (cli.folder / "empty").mkdir()
    (cli.folder / "empty" / "notes.txt").write_text("no photos here")
    assert_one_line(cli.run("ns-train", "img3d-splat", "--data", cli.folder / "empty"), "no photos", "empty")


def test_a_viewer_port_that_is_taken(cli: CommandLine, tiny_scene: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = cli.run(
            "ns-train", "img3d-splat", "--data", tiny_scene, "--vis", "viewer", "--viewer.websocket-port", port
        )
    assert_one_line(result, f"port {port}", "--viewer.websocket-port")


def test_no_checkpoint_to_continue_from(cli: CommandLine, tiny_scene: Path) -> None:
    result = cli.run(*cli.train(tiny_scene, "run", "--load-dir", cli.folder))
    assert_one_line(result, "has no checkpoints", "nerfstudio_models")


def test_a_disk_that_fills_while_saving(trained_run: TrainedRun, cli: CommandLine) -> None:
    size_kb = trained_run.checkpoint.stat().st_size // 1024
    # No file may grow beyond half of a checkpoint, as on a full disk.
    limit = ("bash", "-c", f'ulimit -f {size_kb // 2}; exec "$@"', "bash")
    arguments = cli.train(
        trained_run.data, "full", "--max-num-iterations", 60, "--steps-per-save", 20, vis="tensorboard"
    )
    result = cli.run(*arguments, prefix=limit)
    warnings = [line for line in result.output.splitlines() if line.startswith("Warning: Could not save")]
    assert [line.split("step ")[1].split()[0] for line in warnings] == ["20", "40"]
    assert all("File too large" in line and "training goes on" in line for line in warnings)
    assert_one_line(result, "Could not save the checkpoint of step 59", "no earlier checkpoint")
    left = [path.name for path in cli.folder.rglob("*") if "ckpt" in path.name]
    assert left == []
