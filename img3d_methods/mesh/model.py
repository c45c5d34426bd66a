# SPDX-License-Identifier: Apache-2.0
"""`img3d-mesh`: a textured or coloured mesh as a Nerfstudio model, so that all commands that take a run accept it.

Embree traces rays on the CPU (through Open3D), also on machines with CUDA. Textures are filtered on the model's
device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor
from torch.nn import Parameter

from img3d_assets.mesh import Mesh
from img3d_kernels.mesh_rendering import MeshScene
from img3d_methods.base_model import PlainBackgroundModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.viewing.mesh_view import MeshView
from img3d_methods.viewing.ray_bundles import FAR

RAYS_AT_A_TIME = 1 << 19
"""Number of rays per batch, which bounds the memory."""


@dataclass
class Img3dMeshModelConfig(NoSignedDistanceField, ModelConfig):
    """How a mesh is rendered."""

    _target: type = field(default_factory=lambda: Img3dMeshModel)
    enable_collider: bool = False
    """Off: rays start at the camera and have no end."""
    samples_per_side: int = 2
    """Antialiasing: a pixel is the mean of this number squared of rays."""


class Img3dMeshModel(PlainBackgroundModel):
    """Holds a mesh, which is not trained, and renders its colours without lighting.

    The mesh comes from the data (`metadata["mesh"]`), from `set_mesh`, or from a checkpoint.
    """

    config: Img3dMeshModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False
    BUFFERS: tuple[str, ...] = ("vertices", "faces", "colors", "uvs", "texture")
    """What a checkpoint holds, the first five as in `Mesh`; uvs and texture are empty if there is no texture."""
    vertices: Tensor
    faces: Tensor
    colors: Tensor
    uvs: Tensor
    texture: Tensor

    def populate_modules(self) -> None:
        super().populate_modules()
        metadata = self.kwargs.get("metadata") or {}
        for name in self.BUFFERS:
            self.register_buffer(name, torch.empty(0))
        self._scene: MeshScene | None = None
        self.image_metrics = ImageMetrics()
        self.live_view = MeshView(self)
        self.step = 0
        if "mesh" in metadata:
            self.set_mesh(metadata["mesh"])

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """Empty: nothing is trained."""
        return {}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        return self.live_view.training_callbacks()

    # ------------------------------------------------------------------------------------------------- the mesh

    def set_mesh(self, mesh: Mesh) -> None:
        """Replaces the mesh; it has to be in world coordinates (z up)."""
        textured = mesh.uvs is not None and mesh.texture is not None
        arrays = {
            "vertices": np.asarray(mesh.vertices, np.float32),
            "faces": np.asarray(mesh.faces, np.int64),
            "colors": np.asarray(mesh.colors, np.float32),
            "uvs": np.asarray(mesh.uvs, np.float32) if textured else np.empty((0, 2), np.float32),
            "texture": np.asarray(mesh.texture, np.uint8) if textured else np.empty((0, 0, 3), np.uint8),
        }
        for name, array in arrays.items():
            setattr(self, name, torch.from_numpy(array.copy()).to(self.vertices.device))
        self._scene = None

    def asset(self) -> Mesh:
        """The mesh, in world coordinates (z up)."""
        arrays = [getattr(self, name).cpu().numpy() for name in Img3dMeshModel.BUFFERS]
        textured = self.texture.numel() > 0
        return Mesh(*arrays[:3], *(arrays[3:] if textured else (None, None)), up="z")

    def scene(self) -> MeshScene:
        """The mesh prepared for ray casting; it is kept until the mesh changes."""
        if self._scene is None:
            textured = self.texture.numel() > 0
            self._scene = MeshScene(
                self.vertices,
                self.faces,
                self.colors,
                self.uvs if textured else None,
                self.texture.float() / 255 if textured else None,
            )
        return self._scene

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore
        """Loads a checkpoint, whatever its number of vertices and texels."""
        for name in self.BUFFERS:
            if name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[name], device=self.vertices.device))
        self._scene = None
        return super().load_state_dict(state_dict, **kwargs)

    # ------------------------------------------------------------------------------------------------ rendering

    @torch.no_grad()
    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders a camera or rays.

        Args:
            ray_bundle: Rays of any shape, each followed once, between its near and far if it has these; or a camera
                of any type and of shape [1] or [], which is rendered with antialiasing.

        Returns:
            rgb `[..., 3]` over the background; accumulation `[..., 1]`; depth `[..., 1]`, the distance along the
            ray, which for misses is the largest depth of the picture (for a camera) or `FAR` (for rays); and normals
            `[..., 3]` towards the viewer, mapped from [-1, 1] to [0, 1] as ns-export expects them.
        """
        if isinstance(ray_bundle, Cameras):
            return self._outputs_for_camera(ray_bundle, None)
        shape = ray_bundle.shape
        seen = torch.cat([self._seen(part) for part in _parts(ray_bundle.flatten())])
        outputs = self._outputs(seen.view(*shape, 8))
        outputs["depth"] = torch.where(outputs["accumulation"] >= 0.5, outputs["depth"], FAR)
        return outputs

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Renders inside the box; for the viewer, only what its page does not draw itself."""
        with self.live_view.frame(camera):
            return self._outputs_for_camera(camera, obb_box)

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Renders rays of any shape; the outputs have the rays' shape."""
        return self.get_outputs(camera_ray_bundle.to(self.device))

    def _outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None) -> dict[str, Tensor]:
        camera = camera.reshape((1,)).to(self.device)
        s = max(1, self.config.samples_per_side)
        height, width = int(camera.height), int(camera.width)
        columns = (torch.arange(width * s, device=self.device) + 0.5) / s
        rows_at_a_time = max(1, RAYS_AT_A_TIME // (width * s * s))
        strips = []
        for top in range(0, height, rows_at_a_time):
            bottom = min(top + rows_at_a_time, height)
            rows = top + (torch.arange((bottom - top) * s, device=self.device) + 0.5) / s
            coords = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
            rays = camera.generate_rays(camera_indices=0, coords=coords, obb_box=obb_box)
            seen = self._seen(rays.flatten(), pixel_share=1 / s)
            strips.append(seen.view(bottom - top, s, width, s, 8).mean(dim=(1, 3)))
        outputs = self._outputs(torch.cat(strips))
        shown = outputs["accumulation"] > 0
        farthest = outputs["depth"].max()  # 0 if nothing is in view
        outputs["depth"] = torch.where(shown, outputs["depth"], farthest)
        return outputs

    def _seen(self, rays: RayBundle, pixel_share: float = 1.0) -> Float[Tensor, "N 8"]:
        """Colour (3), distance (1), hit (1) and normal (3) for each of N rays; all are 0 for rays without a hit."""
        nears = torch.zeros_like(rays.origins[:, :1]) if rays.nears is None else rays.nears
        hits = self.scene().cast(
            rays.origins + nears * rays.directions,
            rays.directions,
            pixel_width=pixel_share * rays.pixel_area[:, 0].sqrt(),
        )
        distance = hits.depth[:, None] + nears
        is_hit = hits.is_hit[:, None]
        if rays.fars is not None:
            is_hit = is_hit & (distance <= rays.fars)
        values = torch.cat([hits.rgb, distance, is_hit.float(), hits.normals], dim=-1)
        return torch.where(is_hit, values, 0)

    def _outputs(self, seen: Float[Tensor, "*B 8"]) -> dict[str, Tensor]:
        """Converts the means over each pixel's rays to Nerfstudio's outputs."""
        rgb, distance, accumulation, normals = seen.split([3, 1, 1, 3], dim=-1)
        background = self.background()
        return {
            "rgb": (rgb + (1 - accumulation) * background).clamp(0, 1),
            "depth": distance / accumulation.clamp(min=1e-6),
            "accumulation": accumulation,
            "normals": 0.5 * F.normalize(normals, dim=-1) + 0.5,
            "background": background.expand(*seen.shape[:-1], 3),
        }

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error, for display only: nothing is trained."""
        return {"rgb_loss": F.mse_loss(outputs["rgb"], self._target(batch))}


def _parts(rays: RayBundle) -> list[RayBundle]:
    return [rays[i : i + RAYS_AT_A_TIME] for i in range(0, len(rays), RAYS_AT_A_TIME)] or [rays]
