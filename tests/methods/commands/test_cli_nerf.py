# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-nerf` and what is done with its runs, as typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_lines import CommandLine
from PIL import Image
from plyfile import PlyData
from test_cli_train import load

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).resolve().parents[3] / "sample" / "still_life"
STEPS = 600
SMALL = (
    *("--pipeline.model.num-levels", "6", "--pipeline.model.finest-resolution", "512"),
    *("--pipeline.model.log2-table-size", "15", "--pipeline.datamanager.train-num-rays-per-batch", "512"),
)
"""A field that suits photos of 100 x 75 pixels."""


def training(cli: CommandLine, timestamp: str, *options: object) -> tuple[object, ...]:
    """Arguments of a short run that goes to `run_folder(cli, timestamp)`."""
    return (
        *("ns-train", "img3d-nerf", "--data", cli.folder / "still_life", "--experiment-name", "scene"),
        *("--timestamp", timestamp, "--output-dir", cli.folder / "outputs", "--vis", "tensorboard", *SMALL, *options),
    )


def run_folder(cli: CommandLine, timestamp: str) -> Path:
    return cli.folder / "outputs" / "scene" / "img3d-nerf" / timestamp


def photo(cli: CommandLine, frame: dict[str, Any]) -> np.ndarray:
    """Its pixels in [0, 1], `[75, 100, 3]`."""
    return np.asarray(Image.open(cli.folder / "still_life" / frame["file_path"])) / 255


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, str]:
    """The bundled sample at a quarter of its size, trained for a while, and what was said."""
    cli = CommandLine(tmp_path_factory.mktemp("nerf"))
    cli.env["OMP_NUM_THREADS"] = "1"  # beside other tests torch's threads would wait for each other
    transforms = json.loads((SAMPLE / "transforms.json").read_text())
    for name in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        transforms[name] /= 4
    (cli.folder / "still_life" / "images").mkdir(parents=True)
    for frame in transforms["frames"]:
        small = Image.open(SAMPLE / frame["file_path"]).convert("RGB").reduce(4)
        small.save(cli.folder / "still_life" / frame["file_path"], quality=95)
    (cli.folder / "still_life" / "transforms.json").write_text(json.dumps(transforms))
    return cli, cli.succeed(*training(cli, "first", "--max-num-iterations", STEPS)).output


@pytest.fixture(scope="module")
def frames(trained: tuple[CommandLine, str]) -> list[dict[str, Any]]:
    """The sample's photos and their poses."""
    return json.loads((trained[0].folder / "still_life" / "transforms.json").read_text())["frames"]


def held_out_psnr(output: str) -> float:
    found = re.search(r"held-out photos +│ +PSNR ([\d.]+) dB", output)
    assert found is not None, output[-2000:]
    return float(found[1])


def test_training_learns_the_scene(trained: tuple[CommandLine, str], frames: list[dict[str, Any]]) -> None:
    cli, output = trained
    photos = np.stack([photo(cli, frame) for frame in frames])
    one_colour = -10 * np.log10(((photos - photos.mean(axis=(0, 1, 2))) ** 2).mean())
    assert held_out_psnr(output) > one_colour + 2
    assert "Gaussians" not in output
    state = load(run_folder(cli, "first") / "nerfstudio_models" / f"step-{STEPS - 1:09d}.ckpt")
    assert state["step"] == STEPS - 1 and not any("lpips" in name for name in state["pipeline"])


def test_a_run_goes_on(trained: tuple[CommandLine, str]) -> None:
    cli, first = trained
    checkpoints = run_folder(cli, "first") / "nerfstudio_models"
    second = cli.succeed(*training(cli, "second", "--max-num-iterations", STEPS + 50, "--load-dir", checkpoints)).output
    assert f"Continuing after step {STEPS - 1}" in second
    rows = [re.findall(r"^\d+ \([\d.]+%\) .*?([\d.]+) *$", output, re.MULTILINE) for output in (first, second)]
    assert float(rows[1][0]) > float(rows[0][0]) + 3, "it began anew"


def test_points_have_the_colours_that_photos_show_in_their_places(
    trained: tuple[CommandLine, str], frames: list[dict[str, Any]], tmp_path: Path
) -> None:
    cli, _ = trained
    config, file = run_folder(cli, "first") / "config.yml", tmp_path / "points.ply"
    command = ("img3d-export", "pointcloud", "--load-config", config, "--output", file)
    cli.succeed(*command, "--num-points", 5000, "--original-frame")
    vertices = PlyData.read(file)["vertex"]
    points = np.stack([vertices[axis] for axis in "xyz"], axis=1)
    colors = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=1) / 255
    assert len(points) == 5000
    right, shuffled = [], []
    for frame in frames[::8]:
        to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))
        x, y, z = to_camera[:3, :3] @ points.T + to_camera[:3, 3:]
        column, row = (110 * np.stack([x, -y]) / -z + [[50], [37.5]]).astype(int)
        seen = (z < 0) & (column >= 0) & (column < 100) & (row >= 0) & (row < 75)
        shown = photo(cli, frame)[row[seen], column[seen]]
        right.append(np.abs(shown - colors[seen]).mean())
        shuffled.append(np.abs(shown - np.roll(colors[seen], 1000, axis=0)).mean())
    assert np.mean(right) < 0.7 * np.mean(shuffled)
