# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-nerf` and what is done with its runs, as typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_lines import CommandLine
from plyfile import PlyData
from test_cli_train import held_out_psnr, load

pytestmark = pytest.mark.slow

SMALL = (
    *("--pipeline.model.num-levels", "6", "--pipeline.model.finest-resolution", "256"),
    *("--pipeline.model.log2-table-size", "14", "--pipeline.datamanager.train-num-rays-per-batch", "512"),
)
"""A field that suits a dozen photos of 64 x 48 pixels."""


def training(cli: CommandLine, data: Path, timestamp: str, *options: object) -> tuple[object, ...]:
    """Arguments of a short run that goes to `run_folder(cli, timestamp)`."""
    return (
        *("ns-train", "img3d-nerf", "--data", data, "--experiment-name", "scene", "--timestamp", timestamp),
        *("--output-dir", cli.folder / "outputs", "--vis", "tensorboard", *SMALL, *options),
    )


def run_folder(cli: CommandLine, timestamp: str) -> Path:
    return cli.folder / "outputs" / "scene" / "img3d-nerf" / timestamp


@pytest.fixture(scope="module")
def trained(tiny_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, str]:
    """Trained for 400 steps, and what was said."""
    cli = CommandLine(tmp_path_factory.mktemp("nerf"))
    return cli, cli.succeed(*training(cli, tiny_scene, "first", "--max-num-iterations", 400)).output


def test_training_learns_the_scene(trained: tuple[CommandLine, str]) -> None:
    cli, output = trained
    assert held_out_psnr(output) > 18
    assert "Gaussians" not in output
    assert list((run_folder(cli, "first") / "nerfstudio_models").iterdir()) != []
    state = load(run_folder(cli, "first") / "nerfstudio_models" / "step-000000399.ckpt")
    assert state["step"] == 399 and not any("lpips" in name for name in state["pipeline"])


def test_a_run_goes_on(trained: tuple[CommandLine, str], tiny_scene: Path) -> None:
    cli, output = trained
    checkpoints = run_folder(cli, "first") / "nerfstudio_models"
    more = cli.succeed(
        *training(cli, tiny_scene, "second", "--max-num-iterations", 450, "--load-dir", checkpoints)
    ).output
    assert "Continuing after step 399" in more
    first_row = re.search(r"^400 \([\d.]+%\).*?([\d.]+) *$", more, re.MULTILINE)
    assert first_row is not None and float(first_row[1]) > 15, "it began anew"


def test_ns_eval_measures_what_training_measured(trained: tuple[CommandLine, str], tmp_path: Path) -> None:
    cli, output = trained
    result = tmp_path / "eval.json"
    cli.succeed("ns-eval", "--load-config", run_folder(cli, "first") / "config.yml", "--output-path", result)
    assert json.loads(result.read_text())["results"]["psnr"] == pytest.approx(held_out_psnr(output), abs=0.05)


def test_exporters_find_its_surface(trained: tuple[CommandLine, str], tmp_path: Path) -> None:
    cli, _ = trained
    run, file = run_folder(cli, "first"), tmp_path / "points.ply"
    command = ("img3d-export", "pointcloud", "--load-config", run / "config.yml", "--output", file)
    cli.succeed(*command, "--num-points", 3000, "--original-frame")
    vertices = PlyData.read(file)["vertex"]
    world = np.stack([vertices[axis] for axis in "xyz"], axis=1)
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1) / 255
    solid = np.abs(colors - [0.75, 0.85, 0.95]).max(axis=1) > 0.2  # the sky has no place in space
    to_ball = np.abs(np.linalg.norm(world - [0, 0, 0.5], axis=1) - 0.5)
    to_ground = np.where(np.abs(world[:, :2]).max(axis=1) < 1.6, np.abs(world[:, 2]), np.inf)
    assert solid.sum() > 500
    assert np.median(np.minimum(to_ball, to_ground)[solid]) < 0.1
