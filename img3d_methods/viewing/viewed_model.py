# SPDX-License-Identifier: Apache-2.0
"""Protocols of the models that the viewer shows. They keep imports one way: models import views, and views import no
models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras
    from nerfstudio.cameras.rays import RayBundle
    from nerfstudio.data.scene_box import OrientedBox

    from img3d_assets.mesh import Mesh


class ViewedModel(Protocol):
    """A model of any kind that has a view."""

    step: int
    """The last training step, or that of the checkpoint."""
    training: bool

    @property
    def device(self) -> torch.device | str: ...

    def eval(self) -> Any: ...

    def train(self, mode: bool = True) -> Any: ...

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]: ...


class ViewedRayModel(ViewedModel, Protocol):
    """A model that can render arbitrary rays."""

    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]: ...


class ViewedSplatOptions(Protocol):
    """Options of a splat model that affect how its Gaussians are drawn."""

    sh_degree: int

    @property
    def rasterize_mode(self) -> str: ...


class ViewedSplatModel(ViewedModel, Protocol):
    """A model of Gaussians of splatfacto's family."""

    @property
    def config(self) -> ViewedSplatOptions: ...

    @property
    def gauss_params(self) -> Any:
        """Parameters by name: "means" `[N, 3]`, "scales" `[N, 3]`, "quats" `[N, 4]`, "opacities" `[N, 1]`, …"""

    @property
    def num_points(self) -> int: ...

    max_gaussians: int
    schedule: Any
    """Has `doublings`: steps from which training images have twice the size."""

    def background(self) -> Float[Tensor, "3"]:
        """The background colour, in [0, 1]."""
        ...


class ViewedMeshModel(ViewedModel, Protocol):
    """A model that holds a mesh."""

    def asset(self) -> Mesh:
        """The mesh, in world coordinates."""
        ...

    def background(self) -> Float[Tensor, "3"]:
        """Behind the mesh, in [0, 1]."""
        ...
