# SPDX-License-Identifier: Apache-2.0
"""TRELLIS as a generator: loads the published weights, and turns Gaussians and meshes to the registry's axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_generators.networks.devices import Precision, default_device
from img3d_generators.registry import row
from img3d_generators.trellis.files import SETTINGS, read_settings
from img3d_generators.trellis.samplers import SeveralImages
from img3d_generators.trellis.stages import Options, Trellis
from img3d_generators.trellis.voxels import VoxelGrid
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.weight_files import to_use

A = TypeVar("A")
TURN = TO_Y_UP["z"]
"""Rotation from TRELLIS's axes (z up, -y towards the viewer of the object's front) to the registry's (y up, +z towards
the viewer)."""


def trellis_gaussians(name: str) -> Callable[..., Gaussians]:
    """Loads a row that makes Gaussians."""
    return _loaded(name, gaussians_of)


def trellis_mesh(name: str) -> Callable[..., Mesh]:
    """Loads a row that makes a mesh."""
    return _loaded(name, mesh_of)


def _loaded(name: str, decoded: Callable[[Trellis, VoxelGrid, Tensor, Precision], A]) -> Callable[..., A]:
    trellis = installed(name)

    def made(
        images: Float[Tensor, "4 S S"] | Float[Tensor, "V 4 S S"],
        seed: int = 0,
        steps: int = 0,
        multi_image: SeveralImages = "stochastic",
        precision: Precision = "float32",
        keep_in: Path | None = None,
    ) -> A:
        options = Options(seed, steps, multi_image, precision)
        grid, latents = trellis.latents(images if images.dim() == 4 else images[None], options, keep_in)
        return decoded(trellis, grid, latents, precision)

    return made


def gaussians_of(trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32") -> Gaussians:
    """Decodes latents to Gaussians, y up."""
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(TURN)
    made = trellis.gaussians(grid, latents, precision).transformed(turn).asset(up="y")
    made.antialiased = True
    return made


def mesh_of(trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32") -> Mesh:
    """Decodes latents to a mesh, y up."""
    mesh = trellis.mesh(grid, latents, precision)
    mesh.vertices, mesh.up = mesh.vertices @ TURN.T.astype(mesh.vertices.dtype), "y"
    return mesh


def installed(name: str) -> Trellis:
    """The TRELLIS of a row. Its networks are loaded when they are needed.

    Raises:
        InputError: The weights are not installed, or the file of settings is damaged.
    """
    own, dinov2 = map(checkpoint, row(name).checkpoints)
    folder = to_use(own.name)
    return Trellis(
        folder,
        to_use(dinov2.name) / dinov2.files[0].path,
        own.architecture,
        dinov2.architecture,
        read_settings(folder / SETTINGS),
        default_device(),
        repr((own.files, dinov2.files)),
    )
