# SPDX-License-Identifier: Apache-2.0
"""The model of `img3d-mvs`: a textured mesh, and the points that it was fitted to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.mesh import Mesh
from img3d_assets.point_cloud import PointCloud
from img3d_methods.mesh.model import Img3dMeshModel, Img3dMeshModelConfig

COVERED = 0.5
"""Minimum accumulation of a pixel that shows the mesh."""


@dataclass
class Img3dMvsModelConfig(Img3dMeshModelConfig):
    """How a mesh from photos is rendered."""

    _target: type = field(default_factory=lambda: Img3dMvsModel)


class Img3dMvsModel(Img3dMeshModel):
    """A mesh from photos. What was not reconstructed is a hole, and rendered in the mean colour of such places."""

    config: Img3dMvsModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    BUFFERS = (*Img3dMeshModel.BUFFERS, "points", "point_colors", "point_normals", "background_color")
    points: Tensor
    point_colors: Tensor
    point_normals: Tensor
    background_color: Tensor

    def set_reconstruction(self, mesh: Mesh, cloud: PointCloud, background: Float[np.ndarray, "3"]) -> None:
        """Replaces what the model holds.

        Args:
            mesh: In world coordinates (z up).
            cloud: The points of the surface, in the same world.
            background: The colour of holes, RGB in [0, 1]. A data set's own background is used instead, if it has one.
        """
        self.set_mesh(mesh)
        arrays = {
            "points": cloud.points.astype(np.float32),
            "point_colors": np.round(cloud.colors * 255).astype(np.uint8),
            "point_normals": cloud.normals.astype(np.float16),
            "background_color": np.asarray(background, np.float32),
        }
        for name, array in arrays.items():
            setattr(self, name, torch.from_numpy(array).to(self.vertices.device))

    def point_cloud(self) -> PointCloud:
        """The fused points of the depth maps, in the training world."""
        normals = self.point_normals.float().cpu().numpy()
        return PointCloud(
            self.points.double().cpu().numpy(),
            (self.point_colors.float() / 255).cpu().numpy(),
            normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
        )

    def background(self) -> Float[Tensor, "3"]:
        """The colour of holes, in [0, 1]."""
        if self.background_color.numel() == 0 or self.data_background() is not None:
            return super().background()
        return self.background_color

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of a photo, also of the part that the mesh covers; what a mask excludes is not compared."""
        mask = batch.get("mask")
        used = torch.ones_like(outputs["accumulation"][..., 0], dtype=torch.bool)
        if mask is not None:
            used = mask.to(self.device)[..., 0]
            outputs = {**outputs, "rgb": torch.where(used[..., None], outputs["rgb"], self.background())}
        target = torch.where(used[..., None], self._target(batch), self.background())
        metrics = self.image_metrics.all(outputs["rgb"], target)
        metrics["psnr"] = float(self.image_metrics.psnr(outputs["rgb"][used], target[used]))
        shown = used & (outputs["accumulation"][..., 0] >= COVERED)
        metrics["coverage"] = float(shown.sum() / used.sum().clamp_min(1))
        compared = shown if shown.any() else used  # every photo needs the same metrics
        metrics["covered_psnr"] = float(self.image_metrics.psnr(outputs["rgb"][compared], target[compared]))
        return metrics, {"img": torch.cat([target, outputs["rgb"]], dim=1)}
