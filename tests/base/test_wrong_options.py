# SPDX-License-Identifier: Apache-2.0
"""A command line that tyro rejects costs one line that names the option."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from img3d_base.errors import exits_with_one_line

app = tyro.extras.SubcommandApp()


@app.command(name="write")
def write(output: Path, kind: Literal["a", "b"] = "a", count: int | None = None, scale: float = 1.0) -> None:
    """Does nothing."""


@app.command(name="read")
def read(data: Annotated[Path, tyro.conf.Positional]) -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("write", "do write needs --output"),
        ("read", "do read needs PATH"),
        ("", "do needs one of write, read"),
        ("wrote", "do does not know wrote: `do --help` lists what it knows"),
        ("write --output x --cont 3", "do write does not know --cont: `do write --help` lists what it knows"),
        ("write --output x --kind c", "--kind is 'c', but must be one of a, b"),
        ("write --output x --count two", "--count is 'two', but must be INT"),
        ("write --output x --scale=wide", "--scale is 'wide', but must be FLOAT"),
        ("write --output", "--output needs a value"),
    ],
)
def test_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, line: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/do", *arguments.split()])
    with pytest.raises(SystemExit) as caught, exits_with_one_line("Interrupted."):
        app.cli(prog="do")
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == f"Error: {line}\n" and captured.err == ""


def test_help_is_not_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["do", "write", "--help"])
    with pytest.raises(SystemExit) as caught, exits_with_one_line("Interrupted."):
        app.cli(prog="do")
    assert caught.value.code == 0
    assert "--count" in capsys.readouterr().out
