# SPDX-License-Identifier: Apache-2.0
"""`img3d-export report`, as typed, on a trained run: its numbers are those that training ended with."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from command_lines import TrainedRun

pytestmark = pytest.mark.slow


def test_a_trained_run_becomes_a_page(trained_run: TrainedRun, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    command = ("img3d-export", "report", "--load-config", trained_run.config, "--output", path)
    said = trained_run.cli.succeed(*command).output
    assert str(path) in said
    contents = path.read_text(encoding="utf-8")
    tiles = {html.unescape(name): value for name, value in re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", contents)}
    measured = re.search(r"2 held-out photos +│ +PSNR ([\d.]+) dB, SSIM ([\d.]+)", trained_run.output)
    assert measured is not None
    assert float(tiles["PSNR, held out"].removesuffix(" dB")) == pytest.approx(float(measured[1]), abs=0.02)
    assert float(tiles["SSIM, held out"]) == pytest.approx(float(measured[2]), abs=0.002)
    assert tiles["training steps"] == "1,200"
    assert tiles["photos + held out"] == "14 + 2"
    assert "training time" in tiles
    assert "<h3>Training PSNR</h3>" in contents and "<h3>Loss</h3>" in contents
