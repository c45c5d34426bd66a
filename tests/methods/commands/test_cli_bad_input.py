# SPDX-License-Identifier: Apache-2.0
"""Bad input through the real commands, where a process of its own is needed; the others are in test_bad_inputs.py."""

from __future__ import annotations

import pytest
from command_lines import CommandLine, Result, TrainedRun, free_port

pytestmark = pytest.mark.slow


def assert_one_line(result: Result, *parts: str) -> None:
    assert result.code == 1, result.output[-2000:]
    assert "Traceback" not in result.output
    assert result.last_line.startswith("Error: ")
    for part in parts:
        assert part in result.last_line


def test_a_folder_that_is_not_there_is_all_that_is_talked_about(cli: CommandLine) -> None:
    result = cli.run("ns-train", "img3d-splat", "--data", "nowhere")
    assert_one_line(result, str(cli.folder / "nowhere"), "--data")
    assert result.output.splitlines() == [result.last_line], "no warnings, no configuration"
    assert [path for path in cli.folder.rglob("*") if path.is_file()] == []


def test_a_config_that_is_not_there_is_noticed_before_anything_is_loaded(cli: CommandLine) -> None:
    result = cli.run("ns-eval", "--load-config", "nowhere.yml")
    assert_one_line(result, "there is no file nowhere.yml")
    assert result.output.splitlines() == [result.last_line]


def test_a_run_is_loaded_from_another_folder(trained_run: TrainedRun, cli: CommandLine) -> None:
    """Trained with relative paths or not: config.yml has none."""
    text = trained_run.config.read_text()
    assert str(trained_run.data) in text and str(trained_run.cli.folder / "outputs") in text
    running = cli.start("ns-viewer", "--load-config", trained_run.config, "--viewer.websocket-port", free_port())
    running.wait_for("viser")
    running.wait_for("http")
    running.interrupt()
    result = running.finish()
    assert "Traceback" not in result.output
    assert result.last_line == "Interrupted."
    assert result.code in (130, -2)  # Python ends itself by the signal, which shells call 130


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
