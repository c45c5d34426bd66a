# SPDX-License-Identifier: Apache-2.0
"""`img3d-export` as typed, in this process."""

from __future__ import annotations

import sys

import pytest
import torch

from img3d_exporters import export_command


def run_export(*arguments: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """`img3d-export …`; what it says."""
    monkeypatch.setattr(sys, "argv", ["img3d-export", *map(str, arguments)])
    threads = torch.get_num_threads()
    try:
        export_command.main()
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


def failing_export(*arguments: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """`img3d-export …`, which must fail; its one line."""
    with pytest.raises(SystemExit) as exit_:
        run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert exit_.value.code == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert line.startswith("Error: ")
    return line
