# SPDX-License-Identifier: Apache-2.0
"""Where a run's files are does not depend on where a command is given."""

from __future__ import annotations

import shutil
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from img3d_methods.specs import img3d_splat
from img3d_methods.splat.trainer import Img3dSplatTrainerConfig
from img3d_methods.training.run_config import absolute, moved_data_message


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Img3dSplatTrainerConfig:
    """As `ns-train img3d-splat --data photos` in an empty folder makes it, with what upstream's main does first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ns-train"])
    (tmp_path / "photos").mkdir()
    config = deepcopy(img3d_splat.config)
    assert isinstance(config, Img3dSplatTrainerConfig)
    config.data = Path("photos")
    config.__post_init__()
    config.set_timestamp()
    return config


def saved(config: Img3dSplatTrainerConfig) -> Path:
    config.save_config()
    return config.get_base_dir() / "config.yml"


def load(path: Path) -> Img3dSplatTrainerConfig:
    return yaml.load(path.read_text(), Loader=yaml.Loader)


def test_all_paths_of_a_saved_run_are_absolute(
    config: Img3dSplatTrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.pipeline.datamanager.dataparser.cache_dir = Path("cache")
    config.load_dir = Path("../models")
    config.print_to_terminal()
    path = saved(config)
    monkeypatch.chdir("/")
    loaded = load(path)
    assert loaded.get_base_dir() == path.parent == tmp_path / "outputs" / "photos" / "img3d-splat" / config.timestamp
    assert loaded.pipeline.datamanager.data == tmp_path / "photos"
    assert loaded.pipeline.datamanager.dataparser.cache_dir == tmp_path / "cache"
    assert loaded.load_dir == tmp_path.parent / "models"


def test_the_data_stand_in_one_place_on_one_line_for_who_has_to_edit_them(
    config: Img3dSplatTrainerConfig, tmp_path: Path
) -> None:
    config.pipeline.datamanager.data = tmp_path / ("very long name " * 12)
    lines = [
        line for line in saved(config).read_text().splitlines() if str(tmp_path) in line and "very long name" in line
    ]
    assert len(lines) == 1
    assert lines[0].strip().startswith("data: ")
    assert load(saved(config)).pipeline.datamanager.data == tmp_path / ("very long name " * 12)


def test_the_data_parsers_own_data_are_found_too(config: Img3dSplatTrainerConfig, tmp_path: Path) -> None:
    config.pipeline.datamanager.data = None
    config.pipeline.datamanager.dataparser.data = Path("photos")
    assert load(saved(config)).pipeline.datamanager.data == tmp_path / "photos"


def test_nothing_is_printed_unless_something_is_wrong(
    config: Img3dSplatTrainerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config.print_to_terminal()
    saved(config)
    assert capsys.readouterr().out == ""


def test_data_that_are_not_there_are_the_first_and_only_line(
    config: Img3dSplatTrainerConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.pipeline.datamanager.data = Path("nowhere")
    with pytest.raises(SystemExit) as caught:
        config.print_to_terminal()
    assert caught.value.code == 1
    assert capsys.readouterr().out == f"Error: there is no folder or file {tmp_path / 'nowhere'}; check --data\n"


def test_a_folder_that_cannot_be_written_costs_one_line_and_leaves_nothing(
    config: Img3dSplatTrainerConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(SystemExit):
        config.save_config()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Error: ") and "cannot be written" in line and "--output-dir" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "photos"]


def test_a_run_that_was_moved_is_found_beside_its_config(
    config: Img3dSplatTrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved(config).parent
    (old / "nerfstudio_models").mkdir()
    new = tmp_path / "elsewhere"
    (tmp_path / "outputs").rename(new)
    moved = new / old.relative_to(tmp_path / "outputs")
    loaded = load(moved / "config.yml")
    monkeypatch.setattr(sys, "argv", ["ns-eval", "--load-config", str(moved / "config.yml")])
    assert loaded.get_checkpoint_dir() == moved / "nerfstudio_models"
    monkeypatch.setattr(sys, "argv", ["ns-train"])
    assert loaded.get_base_dir() == old


def test_a_copy_of_a_run_is_loaded_and_not_the_original(
    config: Img3dSplatTrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = saved(config).parent
    (original / "nerfstudio_models").mkdir()
    copy = shutil.copytree(original, tmp_path / "backup")
    monkeypatch.setattr(sys, "argv", ["ns-eval", "--load-config", str(copy / "config.yml")])
    assert load(copy / "config.yml").get_checkpoint_dir() == copy / "nerfstudio_models"


def test_a_trained_run_is_continued_but_not_replaced(
    config: Img3dSplatTrainerConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(config)
    before = path.read_bytes()
    models = path.parent / "nerfstudio_models"
    models.mkdir()
    (models / "step-000000009.ckpt").touch()
    with pytest.raises(SystemExit):
        config.print_to_terminal()
    assert "already holds a trained run" in capsys.readouterr().out
    (tmp_path / "link").symlink_to(models)
    config.load_dir = tmp_path / "link"
    config.print_to_terminal()
    config.save_config()
    assert path.read_bytes() == before, "the trainer writes it after it has loaded the checkpoint"


def test_data_that_were_moved_say_which_file_to_edit(
    config: Img3dSplatTrainerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(config)
    assert moved_data_message(load(path).pipeline.datamanager) is None
    (tmp_path / "photos").rmdir()
    monkeypatch.setattr(sys, "argv", ["ns-eval", f"--load-config={path}"])
    message = moved_data_message(load(path).pipeline.datamanager)
    assert message is not None and "\n" not in message and "--data" not in message
    assert str(path) in message and str(tmp_path / "photos") in message


def test_relative_data_of_an_older_run_say_where_to_go(config: Img3dSplatTrainerConfig) -> None:
    config.pipeline.datamanager.data = Path("old/photos")
    message = moved_data_message(config.pipeline.datamanager)
    assert message is not None and "relative to the folder where ns-train ran" in message


@pytest.mark.parametrize(
    ("given", "meant"), [("a", "a"), ("a/../b", "b"), (".", "."), ("/x/y", "/x/y"), ("~/x", "home/x")]
)
def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert absolute(Path(given)) == tmp_path / meant
