# SPDX-License-Identifier: Apache-2.0
"""What the trainer refuses to continue from, and what it tidies up; its real runs are in test_cli_train.py."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gaussian_scenes import small_model
from nerfstudio.utils import comms
from torch.amp.grad_scaler import GradScaler

from img3d_base.errors import InputError
from img3d_methods.splat.trainer import Img3dSplatTrainer, Img3dSplatTrainerConfig
from img3d_methods.training.checkpoint_files import checkpoint_path, write_checkpoint
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, read_curve, write_curve


@pytest.fixture
def trainer(tmp_path: Path) -> Img3dSplatTrainer:
    """A trainer whose pipeline is no more than a model."""
    model = small_model()
    trainer = Img3dSplatTrainer.__new__(Img3dSplatTrainer)
    trainer.config = Img3dSplatTrainerConfig(
        method_name="img3d-splat", output_dir=tmp_path, load_dir=tmp_path / "models", max_num_iterations=20
    )
    trainer.base_dir = tmp_path / "scene" / "img3d-splat" / "now"
    trainer.checkpoint_dir = tmp_path / "models"
    optimizers = {name: torch.optim.Adam(params, lr=0.1) for name, params in model.get_param_groups().items()}
    for param in model.gauss_params.values():
        param.grad = torch.ones_like(param)

    def load_optimizers(states: dict[str, Any]) -> None:
        for name, state in states.items():
            optimizers[name].load_state_dict(state)

    stub: Any = SimpleNamespace(
        optimizers=optimizers, schedulers={}, load_optimizers=load_optimizers, load_schedulers=lambda states: None
    )
    for optimizer in optimizers.values():
        optimizer.step()
    trainer.optimizers = stub
    pipeline: Any = SimpleNamespace(
        model=model,
        state_dict=model.state_dict,
        load_pipeline=lambda state, step: model.load_state_dict(state),
    )
    trainer.pipeline = pipeline
    trainer.grad_scaler = GradScaler(enabled=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer._start_step = 0
    return trainer


def rewrite(trainer: Img3dSplatTrainer, change: Any) -> None:
    """Save, with something changed."""
    trainer.base_dir.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(7)
    path = checkpoint_path(trainer.checkpoint_dir, 7)
    state = torch.load(path, weights_only=True)
    change(state)
    write_checkpoint(state, path, trainer.base_dir / "partial")


def refusal(trainer: Img3dSplatTrainer) -> str:
    with pytest.raises(InputError) as caught:
        trainer._load_checkpoint()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_saved_is_continued_at_the_next_step(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: None)
    trainer._load_checkpoint()
    assert trainer._start_step == 8


def test_a_run_with_all_its_steps_does_not_go_on(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: None)
    trainer.config.max_num_iterations = 8
    assert "already has 8 of 8 steps" in refusal(trainer)


def test_what_was_measured_until_the_checkpoint_is_continued(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: None)
    curve = [CurvePoint(step, 0.5 * step, 0.1, 20.0, 200) for step in (0, 5, 10)]
    write_curve(curve, trainer.checkpoint_dir.parent / CURVE_FILE)
    trainer._load_checkpoint()
    assert trainer.curve == curve[:2]


def test_a_damaged_curve_does_not_keep_a_run_from_going_on(
    trainer: Img3dSplatTrainer, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(trainer, lambda state: None)
    (trainer.checkpoint_dir.parent / CURVE_FILE).write_text("step\n")
    trainer._load_checkpoint()
    assert (trainer._start_step, trainer.curve) == (8, [])
    assert CURVE_FILE in capsys.readouterr().out


def test_the_curve_is_written_with_each_checkpoint(trainer: Img3dSplatTrainer) -> None:
    trainer.base_dir.mkdir(parents=True)
    trainer.curve = []
    assert trainer._try_to_save(7) is None
    assert not (trainer.base_dir / CURVE_FILE).exists(), "nothing was measured"
    trainer.curve = [CurvePoint(0, 0.0, 0.1, 20.0, 200)]
    assert trainer._try_to_save(8) is None
    assert read_curve(trainer.base_dir / CURVE_FILE) == trainer.curve


def test_only_the_main_process_writes(trainer: Img3dSplatTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.base_dir.mkdir(parents=True)
    trainer.curve = [CurvePoint(0, 0.0, 0.1, 20.0, 200)]
    monkeypatch.setattr(comms, "is_main_process", lambda: False)
    assert trainer._try_to_save(7) is None
    assert not trainer.checkpoint_dir.exists() and not list(trainer.base_dir.iterdir())


def test_optimizer_states_of_another_size_are_refused(trainer: Img3dSplatTrainer) -> None:
    def shorten(state: dict[str, Any]) -> None:
        moments = state["optimizers"]["means"]["state"][0]
        moments["exp_avg"] = moments["exp_avg"][:-1]

    rewrite(trainer, shorten)
    assert "optimizer state of means is [199, 3], not [200, 3]" in refusal(trainer)


def test_options_that_do_not_fit_the_checkpoint_are_named(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: state["optimizers"].update(camera_opt=state["optimizers"]["means"]))
    assert "only one of them has 'camera_opt'" in refusal(trainer)


def test_a_damaged_checkpoint_is_refused(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: None)
    path = checkpoint_path(trainer.checkpoint_dir, 7)
    path.write_bytes(path.read_bytes()[:1000])
    assert "is not a readable checkpoint" in refusal(trainer)


def test_a_step_that_is_not_there_is_named(trainer: Img3dSplatTrainer) -> None:
    rewrite(trainer, lambda state: None)
    trainer.config.load_step = 9
    assert "step-000000009.ckpt" in refusal(trainer)


def test_only_the_latest_checkpoint_is_kept_unless_all_are_wanted(trainer: Img3dSplatTrainer) -> None:
    trainer.base_dir.mkdir(parents=True)
    trainer.save_checkpoint(1)
    trainer.save_checkpoint(2)
    assert [path.name for path in trainer.checkpoint_dir.iterdir()] == ["step-000000002.ckpt"]
    trainer.config.save_only_latest_checkpoint = False
    trainer.save_checkpoint(3)
    assert len(list(trainer.checkpoint_dir.iterdir())) == 2


def test_an_empty_run_is_taken_back_and_a_used_one_is_not(trainer: Img3dSplatTrainer) -> None:
    trainer.base_dir.mkdir(parents=True)
    (trainer.base_dir / "config.yml").write_text("")
    (trainer.base_dir / "notes.txt").write_text("mine")
    trainer._remove_empty_run()
    assert (trainer.base_dir / "config.yml").exists()
    (trainer.base_dir / "notes.txt").unlink()
    trainer._remove_empty_run()
    assert not (trainer.config.output_dir / "scene").exists()
    assert trainer.config.output_dir.exists()


def test_the_hint_how_to_go_on_can_be_pasted_into_a_shell(
    trainer: Img3dSplatTrainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.base_dir.mkdir(parents=True)
    trainer.checkpoint_dir = tmp_path / "my runs; rm -rf" / "models"
    trainer.step, trainer.curve = 7, []
    with pytest.raises(SystemExit):
        trainer._leave_interrupted(130)
    words = shlex.split(capsys.readouterr().out.partition("command with ")[2])
    assert words == ["--load-dir", str(trainer.checkpoint_dir)]
