# SPDX-License-Identifier: Apache-2.0
"""Objects that a guidance shapes, on the real command lines, with tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import CommandLine
from guidance_repositories import write_zero123
from object_image import write_object_image

pytestmark = pytest.mark.slow


def test_an_image_becomes_a_run_like_all_others(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    write_object_image(tmp_path / "cup.png")
    weights = write_zero123(tmp_path / "weights")
    cli.succeed(
        *("ns-train", "img3d-zero123", "--data", "cup.png", "--pipeline.weights", weights, "--timestamp", "now"),
        *("--pipeline.picture-every", 2, "--max-num-iterations", 3, "--vis", "tensorboard"),
        *("img3d-distilled", "--view-size", 32),
    )
    run = tmp_path / "outputs" / "cup" / "img3d-zero123" / "now"
    assert {file.name for file in (run / "pictures").iterdir()} == {"step-000000.png", "step-000002.png"}
    cli.succeed("ns-eval", "--load-config", run / "config.yml", "--output-path", "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())["results"]["psnr"] > 3


def test_without_weights_and_without_a_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    cli.env["IMG3D_WEIGHTS"] = cli.env["HF_HOME"] = str(tmp_path / "none")
    result = cli.run("ns-train", "img3d-dreamfusion", "--pipeline.prompt", "a red chair")
    assert result.code == 1
    assert result.last_line.startswith("Error: img3d-dreamfusion: the guidance stable-diffusion-2.1 needs weights")
    assert "img3d-weights fetch stable-diffusion-2.1-base" in result.last_line
    assert not (tmp_path / "outputs").exists()
