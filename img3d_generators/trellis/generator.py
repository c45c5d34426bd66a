# SPDX-License-Identifier: Apache-2.0
"""TRELLIS as a generator: loads the published weights, and turns Gaussians and meshes to the registry's axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.meshing.texture_baking import check_texture_size
from img3d_generators.networks.devices import Precision, default_device
from img3d_generators.registry import row
from img3d_generators.trellis.files import SETTINGS, read_settings
from img3d_generators.trellis.samplers import SeveralImages
from img3d_generators.trellis.stages import Options, Trellis
from img3d_generators.trellis.texture import textured
from img3d_generators.trellis.voxels import VoxelGrid
from img3d_generators.weights.checkpoints import checkpoint
from img3d_generators.weights.weight_files import to_use

A = TypeVar("A")
TURN = TO_Y_UP["z"]
"""Rotation from TRELLIS's axes (z up, -y towards the viewer of the object's front) to the registry's (y up, +z towards
the viewer)."""


def trellis_gaussians(name: str) -> Callable[..., Gaussians]:
    """Loads a row that makes Gaussians."""
    return partial(_made, installed(name), gaussians_of)


def trellis_mesh(name: str) -> Callable[..., Mesh]:
    """Loads a row that makes a mesh."""
    trellis = installed(name)

    def made(images: Tensor, seed: int = 0, texture_size: int = 0, **options: Any) -> Mesh:
        if texture_size:
            check_texture_size(texture_size)  # before the latents, which take hours
        return _made(trellis, partial(mesh_of, texture_size=texture_size), images, seed, **options)

    return made


def _made(
    trellis: Trellis,
    decoded: Callable[[Trellis, VoxelGrid, Tensor, Precision], A],
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


def gaussians_of(trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32") -> Gaussians:
    """Decodes latents to Gaussians, y up."""
    return turned_gaussians(trellis.gaussians(grid, latents, precision))


def turned_gaussians(made: ActivatedGaussians) -> Gaussians:
    """Turns decoded Gaussians to y up."""
    turn = torch.eye(4)
    turn[:3, :3] = torch.from_numpy(TURN)
    turned = made.transformed(turn).asset(up="y")
    turned.antialiased = True
    return turned


def mesh_of(
    trellis: Trellis, grid: VoxelGrid, latents: Tensor, precision: Precision = "float32", texture_size: int = 0
) -> Mesh:
    """Decodes latents to a mesh, y up.

    Args:
        trellis: The networks.
        grid: The occupied voxels.
        latents: Their latents.
        precision: Precision of matrix products.
        texture_size: Width and height of a texture in pixels, baked from renders of the Gaussians of the same latents;
            0: vertex colours only.
    """
    mesh = turned_mesh(trellis.mesh(grid, latents, precision))
    return textured(mesh, gaussians_of(trellis, grid, latents, precision), texture_size) if texture_size else mesh


def turned_mesh(made: Mesh) -> Mesh:
    """Turns a decoded mesh to y up."""
    return replace(made, vertices=made.vertices @ TURN.T.astype(made.vertices.dtype), up="y")


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
