# SPDX-License-Identifier: Apache-2.0
"""A guidance takes part in refining what a generator made, if it is asked to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_generators
from guidance_repositories import write_zero123
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.utils import writer
from object_image import write_object_image

from img3d_base.errors import InputError
from img3d_generators.registry import rows
from img3d_methods.distilled.refinement import RefinementOptions
from img3d_methods.generated.methods import method_of


@pytest.fixture(autouse=True)
def _own_event_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nerfstudio's writers outlive their trainers, and need a step, which these never take."""
    monkeypatch.setattr(writer, "EVENT_WRITERS", [])


def config_for(folder: Path, method: Any = None, **options: Any) -> Any:
    """A run of two steps of a method, or of img3d-small."""
    config: Any = copy.deepcopy(method or all_methods["img3d-small"])
    config.output_dir, config.experiment_name, config.timestamp = folder / "outputs", "object", "now"
    config.vis, config.max_num_iterations = "tensorboard", 2
    config.viewer.quit_on_train_completion = True
    config.pipeline.datamanager.data = write_object_image(folder / "cup.png")
    for name, value in options.items():
        setattr(config.pipeline, name, value)
    return config


def losses_of(config: Any) -> dict[str, Any]:
    """The losses of the first step."""
    config.print_to_terminal()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(0, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
    _, losses, _ = trainer.pipeline.get_train_loss_dict(0)
    return losses


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert "sds" not in losses_of(config_for(tmp_path))


@pytest.mark.parametrize("generator", toy_generators.NAMES)
def test_zero123_looks_at_fields_and_at_gaussians_that_are_not_aligned(
    generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in toy_generators.ROWS:
        monkeypatch.setitem(rows(), one.name, one)
    method = method_of(generator)
    assert method is not None
    weights = write_zero123(tmp_path / "weights")
    config = config_for(tmp_path, method.config, guidance="zero123", guidance_weights=weights, guidance_size=16)
    parser = config.pipeline.datamanager.dataparser
    parser.num_views, parser.view_size = 2, 16
    loss = losses_of(config)["sds"]
    assert torch.isfinite(loss) and loss.requires_grad


@pytest.mark.parametrize("method", ["img3d-small", "img3d-lgm", "img3d-triposr", "img3d-trellis"])
def test_it_needs_steps(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_for(tmp_path, all_methods[method], guidance="zero123", guidance_weights=tmp_path)
    config.max_num_iterations = 0
    with pytest.raises(SystemExit):
        config.print_to_terminal()
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"Error: {method}: --pipeline.guidance takes part in refining, of which there are 0 steps")


def test_zero123_sees_the_image_that_the_object_was_made_of(tmp_path: Path) -> None:
    weights = write_zero123(tmp_path / "weights")
    losses = losses_of(config_for(tmp_path, guidance="zero123", guidance_weights=weights))
    assert torch.isfinite(losses["sds"]) and losses["sds"].requires_grad


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidance": "stable-diffusion-1.5"}, "takes a text, not an image"),
        ({"guidance": "known-object"}, "--pipeline.guidance-mesh"),
        ({"guidance": "zero123"}, "name their folder with --pipeline.guidance-weights"),
        ({"guidance_weights": Path("x")}, "need --pipeline.guidance"),
        ({"guidance": "zero123", "guidance_weights": Path("x")}, "check --pipeline.guidance-weights"),
        ({"guidance": "known-object", "guidance_weight": -1.0}, "guidance-weight is -1: it cannot be negative"),
        ({"guidance": "known-object", "guidance_size": 8}, "guidance-size is 8: it has to be 16 to 2048, or 0"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        RefinementOptions(**options).check_guidance()
