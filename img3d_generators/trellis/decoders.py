# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's last stage: decodes the latents of the occupied voxels to Gaussians, or to a mesh. z up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.mesh import Mesh
from img3d_generators.trellis.cube_features import NUM_FEATURES, mesh_of_cubes
from img3d_generators.trellis.sparse_layers import SubdivideBlock
from img3d_generators.trellis.structure import LAST_EPS
from img3d_generators.trellis.transformer import DecoderBlock, normed
from img3d_generators.trellis.voxels import VoxelGrid, position_embedding
from img3d_kernels.spherical_harmonics import sh_to_rgb

ROTATION_FACTOR = 0.1
"""Factor of the network's output for rotations; other outputs have none."""
NUMBERS = {"xyz": 3, "features_dc": 3, "scaling": 3, "rotation": 4, "opacity": 1}
"""The network's outputs for a Gaussian, in order, with their numbers of channels."""


@dataclass(frozen=True)
class DecoderConfig:
    """The architecture of a decoder, as published."""

    resolution: int = 64
    """Voxels along the grid's side."""
    latent_channels: int = 8
    """Channels of the latents."""
    model_channels: int = 768
    """Channels of the tokens."""
    num_blocks: int = 12
    """Blocks of the transformer."""
    num_heads: int = 12
    """Heads of the attentions."""
    mlp_ratio: float = 4
    """Channels inside an MLP, in multiples of the tokens'."""
    window_size: int = 8
    """Voxels along a window's side."""


@dataclass(frozen=True)
class GaussianDecoderConfig(DecoderConfig):
    """The architecture of the decoder of Gaussians, as published."""

    num_gaussians: int = 32
    """Number of Gaussians per voxel."""
    voxel_size: float = 1.5
    """Side, in voxels, of the cube around a voxel's centre that contains its Gaussians."""
    min_scale: float = 9e-4
    """Smallest standard deviation."""
    scale_bias: float = 4e-3
    """The standard deviation that an output of 0 means, before `min_scale`."""
    opacity_bias: float = 0.1
    """The opacity that an output of 0 means."""


class Decoder(nn.Module):
    """Base class of the decoders: a transformer of the voxels' tokens with attention in windows."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, window = config.model_channels, config.window_size
        self.input_layer = nn.Linear(config.latent_channels, channels)
        self.blocks = nn.ModuleList(
            [
                DecoderBlock(channels, config.num_heads, config.mlp_ratio, window, window // 2 * (i % 2))
                for i in range(config.num_blocks)
            ]
        )

    def tokens(self, latents: Float[Tensor, "B N C"], grid: VoxelGrid) -> Float[Tensor, "B N D"]:
        """The tokens after all blocks."""
        tokens = self.input_layer(latents) + position_embedding(grid.coords, self.config.model_channels)
        for block in self.blocks:
            tokens = block(tokens, grid)
        return tokens


class GaussianDecoder(Decoder):
    """Decodes latents to Gaussians near the voxels."""

    offset_perturbation: Tensor

    def __init__(self, config: GaussianDecoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.out_layer = nn.Linear(config.model_channels, sum(NUMBERS.values()) * config.num_gaussians)
        spread = (2 * hammersley(config.num_gaussians) - 1) / config.voxel_size
        self.register_buffer("offset_perturbation", torch.atanh(spread))

    def forward(self, latents: Float[Tensor, "1 N C"], grid: VoxelGrid) -> Float[Tensor, "N F"]:
        """The network's outputs for the Gaussians of each voxel."""
        return self.out_layer(normed(self.tokens(latents, grid), LAST_EPS))[0].float()

    def gaussians(self, outputs: Float[Tensor, "N F"], grid: VoxelGrid) -> ActivatedGaussians:
        """The Gaussians that `forward` describes, in the box from -0.5 to 0.5, ordered by voxel."""
        config = self.config
        sizes = [size * config.num_gaussians for size in NUMBERS.values()]
        parts = zip(NUMBERS.items(), outputs.split(sizes, dim=1), strict=True)
        of = {name: part.unflatten(1, (config.num_gaussians, size)) for (name, size), part in parts}
        offsets = torch.tanh(of["xyz"] + self.offset_perturbation) * (config.voxel_size / 2)
        means = (grid.coords[:, None] + 0.5 + offsets) / config.resolution - 0.5
        wide = softplus(of["scaling"] + math.log(math.expm1(config.scale_bias)))
        identity = torch.tensor([1.0, 0.0, 0.0, 0.0], device=outputs.device)
        opacity_logit = math.log(config.opacity_bias / (1 - config.opacity_bias))
        return ActivatedGaussians(
            means.flatten(0, 1),
            normalize(of["rotation"] * ROTATION_FACTOR + identity, dim=-1).flatten(0, 1),
            (wide**2 + config.min_scale**2).sqrt().flatten(0, 1),
            (of["opacity"] + opacity_logit).sigmoid().flatten(),
            sh_to_rgb(of["features_dc"]).flatten(0, 1),
        )


class MeshDecoder(Decoder):
    """Decodes latents to a mesh by FlexiCubes, on a grid of four times the resolution."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        channels = config.model_channels
        self.upsample = nn.ModuleList(
            [SubdivideBlock(channels, channels // 4), SubdivideBlock(channels // 4, channels // 8)]
        )
        self.out_layer = nn.Linear(channels // 8, NUM_FEATURES)

    def forward(self, latents: Float[Tensor, "1 N C"], grid: VoxelGrid) -> Float[Tensor, "M F"]:
        """The features of the cubes of `grid.finer.finer`."""
        features = self.upsample[0](self.tokens(latents, grid), grid)
        return self.out_layer(self.upsample[1](features, grid.finer))[0].float()

    def mesh(self, features: Float[Tensor, "M F"], grid: VoxelGrid) -> Mesh:
        """The mesh that `forward`'s features describe, with vertex colours, in the box from -0.5 to 0.5."""
        cubes = grid.finer.finer.coords
        return mesh_of_cubes(cubes.cpu().numpy(), features.detach().cpu().numpy(), 4 * self.config.resolution)


def hammersley(count: int) -> Float[Tensor, "K 3"]:
    """The Hammersley set: K evenly distributed points in the unit cube."""
    points = [[i / count, radical_inverse(i, 2), radical_inverse(i, 3)] for i in range(count)]
    return torch.from_numpy(np.array(points, np.float32))


def radical_inverse(number: int, base: int) -> float:
    """Mirrors a number's digits in a base at the radix point: 6, in base 2 110, gives 0.011, which is 3/8."""
    value, place = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        value += digit * place
        place /= base
    return value
