# SPDX-License-Identifier: Apache-2.0
"""The model of `img3d-mvs`: a textured mesh, and the points that it was fitted to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from img3d_assets.mesh import Mesh
from img3d_assets.point_cloud import PointCloud
from img3d_kernels.mesh_rendering import MeshScene
from img3d_methods.mesh.model import Img3dMeshModel, Img3dMeshModelConfig
from img3d_methods.mvs.backdrop import Backdrop

COVERED = 0.5
"""Minimum accumulation of a pixel that shows the mesh."""


@dataclass
class Img3dMvsModelConfig(Img3dMeshModelConfig):
    """How a mesh from photos is rendered."""

    _target: type = field(default_factory=lambda: Img3dMvsModel)


class Img3dMvsModel(Img3dMeshModel):
    """A mesh from photos. What was not reconstructed is a hole, through which renders show the backdrop."""

    config: Img3dMvsModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    BUFFERS = (
        *Img3dMeshModel.BUFFERS,
        *("points", "point_colors", "point_normals", "background_color"),
        *("backdrop_center", "backdrop_radii", "backdrop_picture"),
    )
    points: Tensor
    point_colors: Tensor
    point_normals: Tensor
    background_color: Tensor
    backdrop_center: Tensor
    backdrop_radii: Tensor
    backdrop_picture: Tensor

    def populate_modules(self) -> None:
        super().populate_modules()
        self._backdrop: MeshScene | None = None

    def set_reconstruction(
        self, mesh: Mesh, cloud: PointCloud, background: Float[np.ndarray, "3"], backdrop: Backdrop
    ) -> None:
        """Replaces what the model holds.

        Args:
            mesh: In world coordinates (z up).
            cloud: The points of the surface, in the same world.
            background: The mean colour of holes, RGB in [0, 1].
            backdrop: What renders show in holes. A data set's own background is used instead, if it has one.
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
        for name in ("center", "radii", "picture"):
            setattr(self, f"backdrop_{name}", getattr(backdrop, name).to(self.vertices.device))
        self._backdrop = None

    def point_cloud(self) -> PointCloud:
        """The fused points of the depth maps, in the training world."""
        normals = self.point_normals.float().cpu().numpy()
        return PointCloud(
            self.points.double().cpu().numpy(),
            (self.point_colors.float() / 255).cpu().numpy(),
            normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
        )

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore
        """Loads a checkpoint; those of earlier versions have no backdrop."""
        self._backdrop = None
        missing = {name: getattr(self, name).new_empty(0) for name in self.BUFFERS if name not in state_dict}
        return super().load_state_dict({**state_dict, **missing}, **kwargs)

    def _seen(self, rays: RayBundle, pixel_share: float = 1.0) -> Float[Tensor, "N 8"]:
        """As of a mesh; rays without a hit have the difference of the backdrop's colour from the background's."""
        seen = super()._seen(rays, pixel_share)
        missed = seen[:, 4] == 0
        if self.backdrop_picture.numel() == 0 or self.data_background() is not None or not missed.any():
            return seen
        if self._backdrop is None:
            parts = (self.backdrop_center, self.backdrop_radii, self.backdrop_picture)
            self._backdrop = Backdrop(*(part.cpu() for part in parts)).scene()
        widths = pixel_share * rays.pixel_area[missed, 0].sqrt()
        hits = self._backdrop.cast(rays.origins[missed], rays.directions[missed], widths)
        seen[missed, :3] = torch.where(hits.is_hit[:, None], hits.rgb - self.background(), 0.0)
        return seen

    def background(self) -> Float[Tensor, "3"]:
        """The mean colour of holes, in [0, 1]: what the browser shows there."""
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
