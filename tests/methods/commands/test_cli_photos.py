# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-splat --data my_photos/` as typed: plain photos in, without poses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from command_lines import CommandLine

pytestmark = pytest.mark.slow

STILL_LIFE = Path(__file__).resolve().parents[3] / "sample" / "still_life"
TRAIN = ("ns-train", "img3d-splat", "--vis", "tensorboard", "--max-num-iterations", "150")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """16 photos that go a quarter round the still life."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for path in sorted((STILL_LIFE / "images").iterdir())[:16]:
        shutil.copy(path, folder)
    return folder


def test_photos_become_a_run_that_exports_also_after_ctrl_c(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    running = cli.start(*TRAIN, "--data", photos, "--output-dir", tmp_path / "outputs")
    running.wait_for(r"Solving for the poses of 16 photos")
    running.interrupt()
    stopped = running.finish()
    assert stopped.code != 0 and "Traceback" not in stopped.output
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)

    trained = cli.run(*TRAIN, "--data", photos, "--output-dir", tmp_path / "outputs")
    assert trained.code == 0, trained.output[-3000:]
    assert "Resuming the solving for poses" in trained.output
    assert "Poses: 16 of 16 photos registered" in trained.output
    psnr = re.search(r"2 held-out photos +│ +PSNR ([\d.]+) dB", trained.output)
    assert psnr is not None and float(psnr[1]) > 15
    (config,) = (tmp_path / "outputs").rglob("config.yml")
    exported = cli.run("ns-export", "gaussian-splat", "--load-config", config, "--output-dir", tmp_path / "splat")
    assert exported.code == 0 and (tmp_path / "splat" / "splat.ply").is_file()
    assert "from the cache" in exported.output and "Solving" not in exported.output


def test_photos_that_make_no_scene_cost_one_line(photos: Path, tmp_path: Path, cli: CommandLine) -> None:
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    result = cli.run(*TRAIN, "--data", photos, "--output-dir", tmp_path / "outputs")
    assert result.code != 0 and "Traceback" not in result.output
    assert "holds 2 photos, at least 3 are needed" in result.last_line
