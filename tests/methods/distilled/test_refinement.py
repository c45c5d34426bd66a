# SPDX-License-Identifier: Apache-2.0
"""A guidance takes part in refining what a generator made, if it is asked to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from guidance_repositories import write_zero123
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from object_image import write_object_image

from img3d_base.errors import InputError
from img3d_methods.distilled.refinement import RefinementOptions


def config_for(folder: Path, **options: Any) -> Any:
    """A run of two steps of img3d-tiny."""
    config: Any = copy.deepcopy(all_methods["img3d-tiny"])
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


def test_zero123_sees_the_image_that_the_object_was_made_of(tmp_path: Path) -> None:
    weights = write_zero123(tmp_path / "weights")
    losses = losses_of(config_for(tmp_path, guidance="zero123", guidance_weights=weights))
    assert torch.isfinite(losses["sds"]) and losses["sds"].requires_grad


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"guidance": "stable-diffusion-1.5"}, "takes a text, not an image"),
        ({"guidance": "known-object"}, "--pipeline.guidance-mesh"),
        ({"guidance": "zero123"}, "needs weights"),
        ({"guidance_weights": Path("x")}, "need --pipeline.guidance"),
        ({"guidance": "zero123", "guidance_weights": Path("x")}, "check --pipeline.guidance-weights"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        RefinementOptions(**options).check_guidance()
