# SPDX-License-Identifier: Apache-2.0
"""Small models and cameras that several tests share."""

from __future__ import annotations

from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.scene_box import SceneBox

from img3d_methods.splat.model import Img3dSplatModel, Img3dSplatModelConfig


def looking_at(origin: tuple[float, float, float], target: tuple[float, float, float] = (0, 0, 0)) -> torch.Tensor:
    """Camera-to-world `[3, 4]` (OpenGL) at `origin`, looking at `target`, z up."""
    position = torch.tensor(origin, dtype=torch.float32)
    back = torch.nn.functional.normalize(position - torch.tensor(target, dtype=torch.float32), dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), back), dim=0)
    return torch.stack([right, torch.linalg.cross(back, right), back, position], dim=-1)


def pinhole_camera(
    origin: tuple[float, float, float] = (2.0, 1.0, 0.7), width: int = 48, height: int = 40, **options: Any
) -> Cameras:
    """One camera with unequal focal lengths and an off-centre principal point."""
    values: dict[str, Any] = {"fx": 50.0, "fy": 44.0, "cx": width / 2 + 1.5, "cy": height / 2 - 2.0, **options}
    return Cameras(
        camera_to_worlds=looking_at(origin)[None],
        width=width,
        height=height,
        camera_type=CameraType.PERSPECTIVE,
        metadata={},
        **values,
    )


def small_model(num_photos: int = 4, num_points: int = 200, seed: int = 0, **options: Any) -> Img3dSplatModel:
    """A model of random coloured Gaussians about the origin, with view-dependent colour, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    points = 0.5 * torch.randn(num_points, 3, generator=generator)
    colors = 255 * torch.rand(num_points, 3, generator=generator)
    model = Img3dSplatModelConfig(**options).setup(
        scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])),
        num_train_data=num_photos,
        seed_points=(points, colors),
    )
    model.features_rest.data = 0.1 * torch.randn(model.features_rest.shape, generator=generator)
    model.scales.data += 0.5 * torch.randn(model.scales.shape, generator=generator)
    return model.eval()
