# SPDX-License-Identifier: Apache-2.0
"""TripoSR (Tochilkin et al. 2024, arXiv 2403.02151): turns one image of an object into a triplane, from which a small
network reads density and colour.

DINO turns the image into tokens. A transformer turns learned tokens of three planes into tokens of this object, and a
transposed convolution upsamples them. World axes of the network: x back (towards the viewer of the image), y right, z
up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from img3d_assets.fields.triplane import FieldMlp, TriplaneField, TriplaneLayout
from img3d_generators.networks.plane_tokens import planes_of
from img3d_generators.networks.vision_transformer import VisionTransformer, VitConfig
from img3d_generators.triposr.triplane_transformer import TriplaneTransformer
from img3d_generators.weights.state_dicts import load_weights, read_state_dict

RADIUS = 0.87
"""Half the side of the box that the planes cover, in the network's world."""
INSIDE = 1 - 1e-3
"""Fraction of the box's side that is rendered."""
SURFACE_DENSITY = 25.0
"""The density of the object's surface, per length of a ray in the box."""
LAYOUT = TriplaneLayout(
    axes=((0, 1), (0, 2), (1, 2)),
    density_activation="exp",
    density_bias=-1.0,
    inside=INSIDE,
    length_of_every_ray=2.0,
    shortest_path=0.01 / RADIUS,
    surface_density=SURFACE_DENSITY / 2.0,
)


@dataclass(frozen=True)
class TriposrConfig:
    """The architecture; the defaults are those of the published network."""

    image_size: int = 512
    """Height and width in pixels of the network's input image."""
    vit: VitConfig = field(default_factory=VitConfig)
    """The network that turns the image into tokens."""
    plane_size: int = 32
    """Tokens along each side of a plane."""
    channels: int = 1024
    """Channels of these tokens."""
    num_layers: int = 16
    """Blocks of the transformer."""
    num_heads: int = 16
    """Heads of its attentions."""
    head_size: int = 64
    """Channels of each head."""
    plane_channels: int = 40
    """Channels of the triplane's planes, whose sides have twice as many texels as tokens."""
    mlp_channels: int = 64
    """Width of the network that decodes density and colour."""
    mlp_layers: int = 9
    """Number of its hidden layers."""


def config_of(architecture: dict[str, Any]) -> TriposrConfig:
    """The architecture that a checkpoint's YAML file states, with the published values of what it does not state."""
    others = {name: value for name, value in architecture.items() if name != "vit"}
    return TriposrConfig(vit=VitConfig(**architecture.get("vit", {})), **others)


class Triposr(nn.Module):
    """The network. `forward` returns the triplane's features, `generate` the field of one object."""

    def __init__(self, config: TriposrConfig) -> None:
        super().__init__()
        self.config = config
        self.image_tokenizer = nn.ModuleDict({"model": VisionTransformer(config.vit)})
        self.tokenizer = PlaneTokens(config.channels, config.plane_size)
        self.backbone = TriplaneTransformer(
            config.channels, config.num_heads, config.head_size, config.num_layers, config.vit.hidden_size
        )
        upsample = nn.ConvTranspose2d(config.channels, config.plane_channels, kernel_size=2, stride=2)
        self.post_processor = nn.ModuleDict({"upsample": upsample})
        self.decoder = FieldMlp(3 * config.plane_channels, config.mlp_channels, config.mlp_layers)

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 C H W"]:
        """The planes of images in [0, 1], of the size that the configuration states."""
        context = self.image_tokenizer["model"](images)
        tokens = self.backbone(self.tokenizer(len(images)), context)
        return planes_of(tokens, self.post_processor["upsample"])

    @torch.no_grad()
    def generate(self, image: Float[Tensor, "3 H W"], dtype: torch.dtype = torch.float32) -> TriplaneField:
        """The field of the object in an image, on the CPU, in the network's world.

        Args:
            image: Square, in [0, 1], the object centred on grey: `preparation.on_grey`.
            dtype: Data type of the matrix products; sums and normalisations stay in float32.
        """
        size = (self.config.image_size,) * 2
        image = interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)
        device = self.tokenizer.embeddings.device
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32, cache_enabled=False):
            planes = self(image.to(device))[0]
        return field_of(planes.float().cpu(), self.decoder)


class PlaneTokens(nn.Module):
    """The learned tokens that the transformer starts from, the same for every image."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.randn(3, channels, size, size) / channels**0.5)

    def forward(self, num_images: int) -> Float[Tensor, "B C T"]:
        """Tokens in the order plane, row, column."""
        return self.embeddings.transpose(0, 1).flatten(1).expand(num_images, -1, -1)


def field_of(planes: Float[Tensor, "3 C H W"], decoder: FieldMlp) -> TriplaneField:
    """The field of a triplane's planes, in the network's world. The decoder is copied."""
    copy = FieldMlp(*decoder.arguments)
    copy.load_state_dict({key: value.float().cpu() for key, value in decoder.state_dict().items()})
    return TriplaneField(planes, copy, LAYOUT, torch.eye(3) / RADIUS, up="z")


def load_triposr(path: Path, config: TriposrConfig) -> Triposr:
    """Loads the network with the weights of a file, ready to generate.

    Args:
        path: The published model.ckpt, or a safetensors file with the same names.
        config: The architecture of the weights.

    Raises:
        InputError: The file is missing, damaged, or for another network.
    """
    with torch.device("meta"):
        model = Triposr(config)
    load_weights(model, read_state_dict(path), path, torch.float32)
    return model
