# SPDX-License-Identifier: Apache-2.0
"""A run that cannot be loaded is refused in one line that says why, before anything takes long."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.engine.trainer import TrainerConfig

from img3d_base.errors import InputError
from img3d_exporters.load_run import load_run

pytestmark = pytest.mark.slow  # eval_setup imports every method


def write_run(folder: Path, method_name: str = "img3d-splat", checkpoint: bytes | None = None) -> Path:
    """What a run of this method leaves, as far as it goes."""
    from img3d_methods.specs import img3d_splat

    config: TrainerConfig = deepcopy(img3d_splat.config)
    config.method_name = method_name
    config.experiment_name, config.timestamp, config.output_dir = "scene", "run", folder
    sample = Path(__file__).resolve().parents[2] / "sample" / "still_life"
    config.pipeline.datamanager.data = config.data = sample
    path = config.get_base_dir() / "config.yml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.dump(config))
    if checkpoint is not None:
        config.get_checkpoint_dir().mkdir()
        (config.get_checkpoint_dir() / "step-000000099.ckpt").write_bytes(checkpoint)
    return path


def assert_refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as error:
        load_run(path)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_no_such_run(tmp_path: Path) -> None:
    assert_refused(tmp_path / "config.yml", "config.yml")
    assert_refused(tmp_path, "config.yml")


@pytest.mark.parametrize("text", ["[unclosed", "a: 1", "", "!!python/object:no.such.Class {}"])
def test_a_file_of_another_kind(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yml").write_text(text)
    assert_refused(tmp_path / "config.yml", "config.yml")


def test_a_method_that_is_not_installed(tmp_path: Path) -> None:
    assert_refused(write_run(tmp_path, "somebody-elses-method"), "somebody-elses-method", "not installed")


def test_a_run_that_has_saved_nothing(tmp_path: Path) -> None:
    assert_refused(write_run(tmp_path), "no checkpoints", "nerfstudio_models")


def test_numbers_of_numpy_do_not_make_a_checkpoint_unreadable(tmp_path: Path) -> None:
    path = write_run(tmp_path, checkpoint=b"")
    (checkpoint,) = path.parent.rglob("*.ckpt")
    torch.save({"step": 99, "pipeline": {}, "lr": np.float64(0.1)}, checkpoint)  # as Nerfstudio's schedulers leave it
    with pytest.raises(InputError) as error:
        load_run(path)
    assert "its checkpoint has no 'gauss_params" in str(error.value), "it was read"


def test_weights_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **options: Any) -> NoReturn:
        raise URLError("no address associated with hostname")

    monkeypatch.setattr("nerfstudio.utils.eval_utils.eval_load_checkpoint", offline)
    assert_refused(write_run(tmp_path, checkpoint=b""), "download", "LPIPS", "no address")


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    assert_refused(write_run(tmp_path, checkpoint=b"not a checkpoint"), "damaged")
