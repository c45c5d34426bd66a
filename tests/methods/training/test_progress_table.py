# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's table has our columns, and stays readable in a file."""

from __future__ import annotations

import re

import pytest
from nerfstudio.configs.base_config import LoggingConfig
from nerfstudio.utils import writer
from nerfstudio.utils.writer import EventName

from img3d_methods.training.progress_table import GAUSSIANS, TRAIN_PSNR, ProgressTableConfig


@pytest.fixture(autouse=True)
def fresh_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EVENT_WRITERS", []), ("EVENT_STORAGE", []), ("GLOBAL_BUFFER", {})):
        monkeypatch.setattr(writer, name, value)


def report(step: int) -> None:
    writer.put_time(EventName.ITER_TRAIN_TIME, 0.0314, step)
    writer.put_time(EventName.TRAIN_RAYS_PER_SEC, 1e6, step)
    if step % 10 == 0:
        writer.put_scalar(EventName.ETA, 75.0, step)
        writer.put_scalar(GAUSSIANS, 12_345, step)
        writer.put_scalar(TRAIN_PSNR, 23.4567, step)
        writer.put_scalar("learning_rate/means", 1e-4, step)
    writer.write_out_storage()


@pytest.mark.parametrize("first_step", [0, 1000])
def test_a_log_file_gets_one_header_and_one_plain_line_per_report(
    capsys: pytest.CaptureFixture[str], first_step: int
) -> None:
    config = LoggingConfig(steps_per_log=10, local_writer=ProgressTableConfig())
    writer.setup_local_writer(config, max_iter=2000, banner_messages=["Viewer at: http://127.0.0.1:7007"])
    for step in range(first_step, first_step + 21):
        report(step)
    output = capsys.readouterr().out
    assert "\x1b" not in output
    lines = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    assert lines[0] == ["Viewer at: http://127.0.0.1:7007"]
    assert lines[1] == ["Step (% Done)", "Train Iter (time)", "ETA (time)", "Gaussians", "Train PSNR"]
    steps = [first_step, first_step + 10, first_step + 20]
    assert lines[2:] == [
        [f"{step} ({step / 20:.2f}%)", "31.400 ms", "1 m, 15 s", "12,345", "23.4567"] for step in steps
    ]
