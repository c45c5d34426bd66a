# SPDX-License-Identifier: Apache-2.0
"""The trainer of radiance fields."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.engine.trainer import Trainer
from nerfstudio.plugins.types import MethodSpecification
from PIL import Image

from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_kernels.rendering import has_compiled_kernels
from img3d_methods.cached_views import square_cameras
from img3d_methods.field.datamanager import Img3dNerfDatamanager
from img3d_methods.field.model import Img3dNerfModel
from img3d_methods.specs import img3d_nerf, img3d_ngp


def ready(method: MethodSpecification, data: Path, outputs: Path) -> Trainer:
    """Set up for a single step."""
    config: Any = copy.deepcopy(method.config)
    config.max_num_iterations, config.vis, config.output_dir = 1, "tensorboard", outputs
    config.data = config.pipeline.datamanager.data = data
    config.logging.local_writer.enable = False
    config.set_timestamp()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


@pytest.mark.skipif(not has_compiled_kernels(), reason="img3d_kernels._C is not built")
def test_training_leaves_the_cores_to_the_kernels(tiny_scene: Path, tmp_path: Path) -> None:
    """torch's threads spin between its operations: a step took half as long again."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        ready(img3d_nerf, tiny_scene, tmp_path).train()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def ball_in_nerf_synthetics_format(folder: Path, radius: float = 0.4, size: int = 32) -> Path:
    """A white ball at the origin, cut out, from 16 sides; one of them is held out."""
    poses = orbit_camera_to_worlds([45 * index for index in range(16)], [-40, 10, 60, 0] * 4, 2.0)
    focal = 32.0
    cameras, frames = square_cameras(poses, focal, size), []
    for index, pose in enumerate(poses):
        rays = cameras.generate_rays(index)
        nearest = torch.linalg.cross(rays.origins, rays.directions).norm(dim=-1)
        alpha = ((nearest < radius) * 255).to(torch.uint8).numpy()
        Image.fromarray(np.stack([alpha] * 4, axis=-1)).save(folder / f"{index}.png")
        matrix = [*pose.tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"./{index}", "transform_matrix": matrix})
    angle = 2 * math.atan(0.5 * size / focal)
    for split, chosen in (("train", frames[1:]), ("test", frames[:1])):
        transforms = {"camera_angle_x": angle, "frames": chosen}
        (folder / f"transforms_{split}.json").write_text(json.dumps(transforms))
    return folder


def test_an_object_that_is_cut_out_gets_a_box_around_it(tmp_path: Path) -> None:
    """Blended with its background, it would get one around the cameras, and grids and steps many times too coarse."""
    trainer = ready(img3d_ngp, ball_in_nerf_synthetics_format(tmp_path), tmp_path / "runs")
    model, datamanager = trainer.pipeline.model, trainer.pipeline.datamanager
    assert isinstance(model, Img3dNerfModel) and isinstance(datamanager, Img3dNerfDatamanager)
    low, high = model.box
    assert ((low < -0.35) & (low > -0.65)).all() and ((high > 0.35) & (high < 0.65)).all()
    assert datamanager.next_train(0)[1]["image"].shape[1] == 4  # so that backgrounds can be random
    assert datamanager.eval_dataset[0]["image"].shape[2] == 3
