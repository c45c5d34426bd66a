# SPDX-License-Identifier: Apache-2.0
"""img3d-photos through the real `ns-train`: options of the subcommand arrive, bad input ends in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hang_limit import HANG_SECONDS
from PIL import Image

pytestmark = pytest.mark.slow


def ns_train(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ns-train")), "img3d-splat", "--vis", "tensorboard", *args]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=HANG_SECONDS, check=False
    )


def test_options_after_the_dataparsers_name(copy_scene: Callable[[], Path], tmp_path: Path) -> None:
    scene = copy_scene()
    (scene / "images/004.png").unlink()
    run = ns_train(
        tmp_path,
        *("--max-num-iterations", "2", "--data", str(scene), "--output-dir", str(tmp_path / "out")),
        *("img3d-photos", "--downscale-factor", "1.5", "--eval-interval", "5"),
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Warning: 1 of 16 photos do not exist (images/004.png)" in run.stdout
    (config_path,) = (tmp_path / "out").rglob("config.yml")
    dataparser = yaml.load(config_path.read_text(), Loader=yaml.Loader).pipeline.datamanager.dataparser
    assert (dataparser.downscale_factor, dataparser.eval_interval) == (1.5, 5)
    assert list(config_path.parent.rglob("*.ckpt"))


def test_bad_input_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "my photos" / "a.jpg")
    run = ns_train(tmp_path, "--data", "my photos", "--output-dir", str(tmp_path / "out"))
    assert run.returncode == 1
    assert "Traceback" not in run.stdout + run.stderr
    (line,) = [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error: ")]
    assert "my photos: 0 usable photos, at least 3 are needed: a.jpg is smaller than 96 pixels" in line
