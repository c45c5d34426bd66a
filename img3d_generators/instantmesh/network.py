# SPDX-License-Identifier: Apache-2.0
"""InstantMesh (Xu et al. 2024, arXiv 2404.07191): turns views of an object with known cameras into a triplane, from
which small networks read a mesh or a field.

DINO, modulated by the cameras, turns the views into tokens. A transformer turns learned tokens of three planes into
tokens of this object. World axes of the network: x towards the viewer of the input image, y right, z up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from img3d_generators.instantmesh.heads import FieldHead, MeshHead
from img3d_generators.instantmesh.view_transformer import ViewTransformer
from img3d_generators.networks.vision_transformer import VisionTransformer, VitConfig
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

CAMERA_NUMBERS = 16
"""Numbers that describe a camera: 12 of its pose and 4 of its lens."""
PREFIX = "lrm_generator."
"""Prefix of the names of the network's weights in a published file, which also has other weights."""
NOT_USED = "source_camera"
"""Part of the names of weights that are in a published file but not in the network."""


@dataclass(frozen=True)
class InstantMeshConfig:
    """The architecture. The defaults are those of the published large networks."""

    head: Literal["mesh", "field"] = "mesh"
    """The kind of asset that the planes are decoded to."""
    image_size: int = 320
    """Height and width in pixels of the network's input views."""
    vit: VitConfig = field(default_factory=VitConfig)
    """The network that turns views into tokens."""
    plane_size: int = 32
    """Tokens along each side of a plane."""
    channels: int = 1024
    """Channels of these tokens."""
    num_layers: int = 16
    """Blocks of the transformer."""
    num_heads: int = 16
    """Heads of its attentions."""
    plane_channels: int = 80
    """Channels of the finished planes, which are twice as large."""
    head_channels: int = 64
    """Width of the networks that decode the planes."""
    grid_resolution: int = 128
    """Cubes along each side of the grid from which a mesh is extracted."""
    grid_scale: float = 2.1
    """Side of that grid in the network's world."""


def config_of(architecture: dict[str, Any]) -> InstantMeshConfig:
    """The architecture that a checkpoint's YAML file states, with the published values of what it does not state."""
    others = {name: value for name, value in architecture.items() if name != "vit"}
    return InstantMeshConfig(vit=VitConfig(**architecture.get("vit", {})), **others)


class InstantMesh(nn.Module):
    """The network. `forward` returns the triplane's features; `head` decodes them."""

    def __init__(self, config: InstantMeshConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViewEncoder(config.vit)
        self.transformer = ViewTransformer(
            config.channels,
            config.num_heads,
            config.num_layers,
            config.vit.hidden_size,
            config.plane_size,
            config.plane_channels,
        )
        head = MeshHead if config.head == "mesh" else FieldHead
        self.synthesizer = nn.ModuleDict({"decoder": head(config.plane_channels, config.head_channels)})

    @property
    def head(self) -> MeshHead | FieldHead:
        """The decoder of the planes."""
        return self.synthesizer["decoder"]  # pyright: ignore[reportReturnType]

    def forward(
        self, images: Float[Tensor, "B V 3 S S"], cameras: Float[Tensor, "B V 16"]
    ) -> Float[Tensor, "B 3 C H W"]:
        """The planes of B objects.

        Args:
            images: Views on white, in [0, 1], of `image_size`.
            cameras: The views' `camera_numbers`.
        """
        tokens = self.encoder(images.flatten(0, 1), cameras.flatten(0, 1))
        return self.transformer(tokens.unflatten(0, images.shape[:2]).flatten(1, 2))

    @torch.no_grad()
    def planes(
        self, images: Float[Tensor, "V 3 S S"], cameras: Float[Tensor, "V 16"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "3 C P P"]:
        """The planes of one object, in float32, on the network's device.

        Args:
            images: Square views on white, in [0, 1], of any size.
            cameras: The views' `camera_numbers`.
            dtype: Data type of the matrix products; sums and normalisations stay in float32.
        """
        size = (self.config.image_size,) * 2
        images = interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        device = self.transformer.pos_embed.device
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
            return self(images[None].to(device), cameras[None].to(device))[0].float()


class ViewEncoder(nn.Module):
    """Turns views and their cameras into tokens."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.model = VisionTransformer(config, modulated=True, has_pooler=False)
        size = config.hidden_size
        self.camera_embedder = nn.Sequential(nn.Linear(CAMERA_NUMBERS, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, images: Float[Tensor, "B 3 S S"], cameras: Float[Tensor, "B 16"]) -> Float[Tensor, "B T D"]:
        return self.model(images, self.camera_embedder(cameras))


def load_instantmesh(path: Path, config: InstantMeshConfig) -> InstantMesh:
    """Loads the network with the weights of a file, ready to generate.

    Args:
        path: A published instant_….ckpt, or a file with the same names.
        config: The architecture of the weights.

    Raises:
        InputError: The file is missing, damaged, or for another network.
    """
    with torch.device("meta"):
        model = InstantMesh(config)
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in read_state_dict(path).items()
        if name.startswith(PREFIX) and NOT_USED not in name
    }
    load_weights(model, weights, path, torch.float32)
    return model
