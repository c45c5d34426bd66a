# SPDX-License-Identifier: Apache-2.0
"""The trainer of radiance fields."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from img3d_kernels.rendering import has_compiled_kernels
from img3d_methods.specs import img3d_nerf


@pytest.mark.skipif(not has_compiled_kernels(), reason="img3d_kernels._C is not built")
def test_training_leaves_the_cores_to_the_kernels(tiny_scene: Path, tmp_path: Path) -> None:
    """torch's threads spin between its operations: a step took half as long again."""
    config = copy.deepcopy(img3d_nerf.config)
    config.max_num_iterations, config.vis, config.output_dir, config.data = 1, "tensorboard", tmp_path, tiny_scene
    config.pipeline.datamanager.data = tiny_scene
    config.logging.local_writer.enable = False
    config.set_timestamp()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        trainer.train()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
