# SPDX-License-Identifier: Apache-2.0
"""TRELLIS as a generator: its published weights, and its Gaussians and meshes in the world of the registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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

TURN = TO_Y_UP["z"]
"""From TRELLIS's axes (z up, -y towards the viewer of the object's front) to ours."""


def trellis_gaussians(name: str) -> Callable[..., Gaussians]:
    """Loader of a row that makes Gaussians."""
    trellis = installed(name)

    def gaussians(
        images: Float[Tensor, "4 S S"] | Float[Tensor, "V 4 S S"],
        seed: int = 0,
        steps: int = 0,
        multi_image: SeveralImages = "stochastic",
        precision: Precision = "float32",
        keep_in: Path | None = None,
    ) -> Gaussians:
        return gaussians_of(trellis, *_latents(trellis, images, seed, steps, multi_image, precision, keep_in))

    return gaussians


def trellis_mesh(name: str) -> Callable[..., Mesh]:
    """Loader of a row that makes a mesh."""
    trellis = installed(name)

    def mesh(
        images: Float[Tensor, "4 S S"] | Float[Tensor, "V 4 S S"],
        seed: int = 0,
        steps: int = 0,
        multi_image: SeveralImages = "stochastic",
        precision: Precision = "float32",
        keep_in: Path | None = None,
    ) -> Mesh:
        return mesh_of(trellis, *_latents(trellis, images, seed, steps, multi_image, precision, keep_in))

    return mesh


def _latents(
    trellis: Trellis,
    images: Float[Tensor, "4 S S"] | Float[Tensor, "V 4 S S"],
    seed: int,
    steps: int,
    multi_image: SeveralImages,
    precision: Precision,
    keep_in: Path | None,
) -> tuple[VoxelGrid, Tensor, Precision]:
    options = Options(seed, steps, multi_image, precision)
    return *trellis.latents(images if images.dim() == 4 else images[None], options, keep_in), precision


def gaussians_of(trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32") -> Gaussians:
    """The Gaussians of latents, y up."""
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(TURN)
    made = trellis.gaussians(grid, latents, precision).transformed(turn).asset(up="y")
    made.antialiased = True
    return made


def mesh_of(trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32") -> Mesh:
    """The mesh of latents, y up."""
    mesh = trellis.mesh(grid, latents, precision)
    mesh.vertices, mesh.up = mesh.vertices @ TURN.T.astype(mesh.vertices.dtype), "y"
    return mesh


def installed(name: str) -> Trellis:
    """A row's TRELLIS, whose networks are loaded when they are needed.

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
