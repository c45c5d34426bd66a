# SPDX-License-Identifier: Apache-2.0
"""What ends a command is explained in one line if its user caused it, and keeps its traceback otherwise."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nerfstudio.scripts import eval as eval_script
from nerfstudio.scripts import train as train_script
from nerfstudio.utils import eval_utils

from img3d_base.errors import InputError
from img3d_methods import compat
from img3d_methods.commands.command_errors import line_about, why_no_config
from img3d_methods.specs import img3d_splat


def raised_by(function: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


def line_of_loading(path: Path) -> str:
    """What ns-eval says of a --load-config."""
    line = line_about(raised_by(lambda: eval_utils.eval_setup(path)), str(path))
    assert line is not None and "\n" not in line
    assert line.startswith(f"Error: {path} ")
    return line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it holds no training configuration"),
        (b"a: 1", "it holds no training configuration"),
        (b"[unclosed", "is not a config.yml"),
        (b"\xff\xfe\x00", "is not a config.yml"),
        (b"!!python/object:no.such.Class {}", "is not a config.yml"),
    ],
)
def test_a_config_of_another_kind(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "config.yml").write_bytes(content)
    assert reason in line_of_loading(tmp_path / "config.yml")
    config = train_script.TrainerConfig(load_config=tmp_path / "config.yml")
    line = line_about(raised_by(lambda: train_script.main(config)), str(tmp_path / "config.yml"))
    assert line is not None and "is not a config.yml that ns-train wrote" in line


def test_a_method_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yml"
    config.write_text("!!python/object:nerfstudio.engine.trainer.TrainerConfig\nmethod_name: other\npipeline: null\n")
    assert "'other', a method that is not installed here" in line_of_loading(config)


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        (None, "it has no checkpoint"),
        ("step-000000009.ckpt", "its checkpoint is damaged"),
        ("notes.txt", "among its checkpoints"),
    ],
)
def test_checkpoints_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str | None, reason: str
) -> None:
    if checkpoint is not None:
        (tmp_path / checkpoint).write_text("not a checkpoint")
    monkeypatch.setattr(img3d_splat.config, "load_dir", tmp_path)
    error = raised_by(lambda: eval_utils.eval_load_checkpoint(img3d_splat.config, None))  # pyright: ignore
    line = line_about(error, "run/config.yml")
    assert line is not None and line.startswith("Error: run/config.yml cannot be loaded") and reason in line


def test_files_that_cannot_be_opened_are_named() -> None:
    line = line_about(raised_by(lambda: Path("/nowhere/at/all").read_text()), None)
    assert line == "Error: /nowhere/at/all cannot be read or written: No such file or directory"


def test_a_full_disk_has_no_name() -> None:
    line = line_about(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), None)
    assert line == "Error: a file could not be written: No space left on device"


def test_bad_input() -> None:
    assert line_about(InputError("the photos are gone"), None) == "Error: the photos are gone"


def test_what_a_script_asserts_of_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval_script, "eval_setup", lambda path: (None, None, None, None))
    error = raised_by(eval_script.ComputePSNR(tmp_path, output_path=Path("result.txt")).main)
    line = line_about(error, None)
    assert line is not None and 'output_path.suffix == ".json"' in line


@pytest.mark.parametrize("error", [ValueError("a bug"), AssertionError("a bug"), KeyError("a"), OSError("odd")])
def test_bugs_keep_their_traceback(error: Exception) -> None:
    def fails() -> None:
        raise error

    assert line_about(raised_by(fails), "config.yml") is None


class TestLoadConfig:
    def test_a_file_is_all_right(self, tmp_path: Path) -> None:
        (tmp_path / "config.yml").touch()
        assert why_no_config(tmp_path / "config.yml") is None

    def test_nothing_there(self, tmp_path: Path) -> None:
        assert f"there is no file {tmp_path / 'a.yml'}" in str(why_no_config(tmp_path / "a.yml"))

    def test_a_runs_folder(self, tmp_path: Path) -> None:
        assert "takes the config.yml" in str(why_no_config(tmp_path))
        (tmp_path / "config.yml").touch()
        assert f"did you mean {tmp_path / 'config.yml'}?" in str(why_no_config(tmp_path))

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "is a pipe" in str(why_no_config(tmp_path / "pipe"))

    def test_no_name_of_a_file(self, tmp_path: Path) -> None:
        assert "cannot be read" in str(why_no_config(tmp_path / ("x" * 300)))


class TestHook:
    @pytest.fixture
    def hook(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """What ns-train installs; `previous` is what was there."""
        monkeypatch.setattr(sys, "argv", ["/bin/ns-train"])  # which leaves SIGTERM alone
        self.seen: list[BaseException] = []
        monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: self.seen.append(error))
        compat.prepare_command()
        return sys.excepthook

    def test_one_line_for_what_is_known(self, hook: Any, capsys: pytest.CaptureFixture[str]) -> None:
        hook(KeyboardInterrupt, KeyboardInterrupt(), None)
        hook(InputError, InputError("no photos"), None)
        assert capsys.readouterr().out == "Interrupted.\nError: no photos\n"
        assert self.seen == []

    def test_the_traceback_for_what_is_not(self, hook: Any, capsys: pytest.CaptureFixture[str]) -> None:
        error = ValueError("a bug")
        hook(ValueError, error, None)
        assert capsys.readouterr().out == "" and self.seen == [error]

    def test_it_is_installed_once(self, hook: Any) -> None:
        compat.prepare_command()
        assert sys.excepthook is hook

    def test_other_programs_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["my_script.py", "--load-config", "nowhere.yml"])
        before = sys.excepthook
        compat.prepare_command()
        assert sys.excepthook is before

    def test_a_missing_config_ends_the_command_at_once(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["ns-viewer", "--load_config=nowhere.yml"])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(SystemExit) as caught:
            compat.prepare_command()
        assert caught.value.code == 1
        assert "there is no file nowhere.yml" in capsys.readouterr().out
