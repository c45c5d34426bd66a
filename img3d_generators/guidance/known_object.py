# SPDX-License-Identifier: Apache-2.0
"""The exact denoiser of a mesh: what a perfect network would know of it. See `exact_denoiser`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.axes import TO_Y_UP
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.exact_denoiser import ExactDenoiser
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.registry import InputView
from img3d_kernels.mesh_rendering import MeshScene
from img3d_kernels.poses import intrinsics

OBJECT_RADIUS = 0.75
"""Radius of the object's bounding sphere: from a distance of 2, a lens of 49.1 degrees sees it with a margin."""
OFFSETS = ((0.0, 0.0), (8.0, 0.0), (-8.0, 0.0), (0.0, 12.0), (0.0, -12.0))
"""Elevations and azimuths, in degrees, by which views can be off."""
MAX_ELEVATION = 89.0


class KnownObject:
    """Renders of a mesh that fills the view, on white and on black.

    Args:
        mesh: With y up, its front on +z.
        view: The cameras' field of view. Their distance is that of the views.
    """

    def __init__(self, mesh: Mesh, view: InputView) -> None:
        vertices = mesh.vertices @ TO_Y_UP[mesh.up or "y"].T
        middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
        scale = OBJECT_RADIUS / max(float(np.linalg.norm(vertices - middle, axis=1).max()), 1e-12)
        placed = torch.from_numpy(((vertices - middle) * scale).astype(np.float32))
        texture = None if mesh.texture is None else torch.from_numpy(mesh.texture).float() / 255
        uvs = None if mesh.uvs is None or texture is None else torch.from_numpy(mesh.uvs)
        self._scene = MeshScene(
            placed,
            torch.from_numpy(mesh.faces),
            torch.from_numpy(mesh.colors),
            uvs,
            texture if uvs is not None else None,
        )
        self._fov = view.fov

    def rendered(self, views: ViewAngles, size: int) -> tuple[Float[Tensor, "V 3 S S"], Float[Tensor, "V 1 S S"]]:
        """Colours on black, and the share of each pixel that shows the object."""
        elevations = views.elevations.clamp(-MAX_ELEVATION, MAX_ELEVATION)
        K = intrinsics(self._fov, size)
        pictures = []
        for azimuth, elevation, distance in zip(views.azimuths, elevations, views.distances, strict=True):
            (pose,) = orbit_camera_to_worlds(azimuth[None].cpu(), elevation[None].cpu(), float(distance))
            rgb, _, alpha, _ = self._scene.render(pose, K, size, size)
            pictures.append(torch.cat([rgb, alpha], dim=-1).permute(2, 0, 1))
        both = torch.stack(pictures)
        return both[:, :3], both[:, 3:]

    def on_white_and_black(self, views: ViewAngles, size: int) -> Float[Tensor, "W 3 S S"]:
        """Two pictures of each view."""
        rgb, alpha = self.rendered(views, size)
        return torch.cat([rgb + 1 - alpha, rgb])


def denoiser_of_mesh(file: Path, view: InputView) -> ExactDenoiser:
    """The exact denoiser of a mesh file's object.

    Args:
        file: The mesh; y is up, as in most of these files, unless its format says otherwise.
        view: The cameras' field of view.

    Raises:
        InputError: The file is not a mesh.
    """
    mesh, up = read_mesh(file)
    mesh.up = up or "y"
    return ExactDenoiser(KnownObject(mesh, view).on_white_and_black, OFFSETS)
