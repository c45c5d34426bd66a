# SPDX-License-Identifier: Apache-2.0
"""A mesh whose texture is trained, while its surface stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from torch import Tensor
from torch.nn import Parameter

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.uv_atlas import nearest_filled, texels_of, unwrapped, with_gutters
from img3d_methods.mesh.model import Img3dMeshModel, Img3dMeshModelConfig


@dataclass
class Img3dRetexturedModelConfig(Img3dMeshModelConfig):
    """How the mesh is rendered."""

    _target: type = field(default_factory=lambda: Img3dRetexturedModel)


class Img3dRetexturedModel(Img3dMeshModel):
    """Trains the texels of a mesh. `texture`, which it shows and exports, follows after each step."""

    texels: Parameter
    """`[H, W, 3]`, empty until `begin`."""
    _nearest: Int64[Tensor, "H W"] | None = None
    """For each texel the nearest one that faces cover; None before `begin`, and where faces share texels."""

    def populate_modules(self) -> None:
        self.texels = Parameter(torch.empty(0, 0, 3))
        super().populate_modules()

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The texels."""
        return {"texels": [self.texels]}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        show = TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.show)
        return [show, *super().get_training_callbacks(training_callback_attributes)]

    def begin(self, texture_size: int) -> None:
        """Makes the texels trainable. A mesh without a texture gets one in the colours of its vertices.

        Args:
            texture_size: Width and height of a new texture.
        """
        if self.texture.numel() == 0:
            self.set_mesh(with_texture(self.asset(), texture_size))
        self._nearest = nearest_covered(self.asset())
        self.texels = Parameter(self.texture.float() / 255)

    def differentiable_picture(
        self, camera_to_world: Float[Tensor, "3 4"], K: Float[Tensor, "3 3"], size: int
    ) -> tuple[Float[Tensor, "3 S S"], Float[Tensor, "1 S S"]]:
        """A render on the background, differentiable with respect to the texels, and its opacity.

        Args:
            camera_to_world: OpenGL axes.
            K: Intrinsics in pixels.
            size: Width and height in pixels.
        """
        scene = self.scene()
        scene.repaint(self.texels)
        rgb, _, alpha, _ = scene.render(camera_to_world, K, size, size, max(1, self.config.samples_per_side))
        scene.repaint(self.texels.detach())
        return (rgb + (1 - alpha) * self.background()).permute(2, 0, 1), alpha.permute(2, 0, 1)

    @torch.no_grad()
    def show(self, step: int) -> None:
        """Limits the texels to [0, 1], continues them beyond the charts' edges, and makes them the texture.

        Args:
            step: The step after which this is.
        """
        self.step = step
        self.texels.clamp_(0, 1)
        if self._nearest is not None:  # what is between charts has no gradient, and filters mix it with their edges
            self.texels.copy_(self.texels.reshape(-1, 3)[self._nearest])
        self.texture = (255 * self.texels).round().byte()
        self.scene().repaint(self.texture.float() / 255)

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore
        """Loads a checkpoint, whatever its number of texels."""
        if "texels" in state_dict and state_dict["texels"].shape != self.texels.shape:
            self.texels = Parameter(torch.empty_like(state_dict["texels"], device=self.vertices.device))
        return super().load_state_dict(state_dict, **kwargs)


def with_texture(mesh: Mesh, texture_size: int) -> Mesh:
    """The mesh with texture coordinates and a texture in the colours of its vertices, which are duplicated along
    seams."""
    mesh = unwrapped(mesh, texture_size)
    texels = texels_of(mesh, texture_size)
    texture = np.zeros((texture_size * texture_size, 3), np.uint8)
    texture[texels.pixels] = np.round(texels.interpolated(mesh.colors, mesh).clip(0, 1) * 255)
    mesh.texture = with_gutters(texture.reshape(texture_size, texture_size, 3), texels.pixels)
    return mesh


def nearest_covered(mesh: Mesh) -> Int64[Tensor, "H W"] | None:
    """The nearest texel that faces cover, for each texel of a square texture. None for other textures, and for those
    that repeat: coordinates outside [0, 1] say nothing of texels between charts."""
    assert mesh.texture is not None and mesh.uvs is not None
    height, width = mesh.texture.shape[:2]
    if height != width or mesh.uvs.min() < 0 or mesh.uvs.max() > 1:
        return None
    covered = texels_of(mesh, height).pixels
    return torch.from_numpy(nearest_filled(height, width, covered)) if len(covered) else None
