# SPDX-License-Identifier: Apache-2.0
"""A radiance field of a few thousand parameters that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.data.scene_box import SceneBox

from img3d_methods.field.model import Img3dNerfModel, Img3dNerfModelConfig


def small_nerf(metadata: dict[str, Any] | None = None, seed: int = 0, **options: Any) -> Img3dNerfModel:
    """In evaluation mode, with features as large as after some training."""
    torch.manual_seed(seed)
    sizes = {"num_levels": 3, "finest_resolution": 64, "log2_table_size": 10, "grid_resolution": 16}
    model = Img3dNerfModelConfig(**{**sizes, **options}).setup(
        scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=4, metadata=metadata or {}
    )
    model.table.data.uniform_(-2, 2)
    return model.eval()
