# SPDX-License-Identifier: Apache-2.0
"""Splats that train with stereo's depth: it is computed before the first step, kept, and part of the loss."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from stereo_scenes import stereo_scene
from test_reconstruction import no_stereo, photos_in

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_methods.mvs import depth_stage
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.pipeline import Img3dSplatPipelineConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig


def pipeline_of(folder: Path, stereo_prior: float) -> Any:
    parser = Img3dPhotosDataParserConfig(eval_mode="all", load_3D_points=False, cache_dir=folder / "cache")
    config = Img3dSplatPipelineConfig(
        datamanager=Img3dDatamanagerConfig(data=folder, dataparser=parser),
        model=Img3dSplatModelConfig(stereo_prior=stereo_prior, num_random=300, warmup_length=10),
    )
    return config.setup(device="cpu", test_mode="val")


def losses_of(pipeline: Any) -> dict[str, Any]:
    """Of the first step."""
    groups = pipeline.model.get_param_groups()
    optimizers: Any = SimpleNamespace(optimizers={name: torch.optim.Adam(params) for name, params in groups.items()})
    trainer: Any = SimpleNamespace(config=SimpleNamespace(max_num_iterations=100))
    pipeline.model.get_training_callbacks(TrainingCallbackAttributes(optimizers, None, None, trainer))
    pipeline.train()
    # Random Gaussians begin almost transparent, and a surface that does not hide what is behind it has no depth.
    with torch.no_grad():
        pipeline.model.gauss_params["opacities"].fill_(3.0)
    pipeline.model.step_cb(optimizers, step=0)
    return pipeline.get_train_loss_dict(0)[1]


def test_stereo_is_computed_once_and_is_part_of_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos_in(tmp_path, stereo_scene(128, 104)[0], 12)
    first = pipeline_of(tmp_path, 0.5)
    prior = first.model.stereo_prior
    assert len(prior.maps) == 5
    for found in prior.maps:
        assert (found.depth[:, 12:] > 0).float().mean() > 0.3 and (found.depth[:, :12] == 0).all()
    assert float(losses_of(first)["stereo_prior"].detach()) > 0
    monkeypatch.setattr(depth_stage, "stereo_depth_maps", no_stereo)
    again = pipeline_of(tmp_path, 0.5).model.stereo_prior
    assert all((a.depth == b.depth).all() for a, b in zip(prior.maps, again.maps, strict=True))
    without = pipeline_of(tmp_path, 0.0)
    assert without.model.stereo_prior is None and "stereo_prior" not in losses_of(without)
