# SPDX-License-Identifier: Apache-2.0
"""DINOv2 with registers (Oquab et al. 2023, arXiv 2304.07193; Darcet et al. 2023, arXiv 2309.16588), which turns an
image into tokens. Names of weights are those that its authors publish; files of Hugging Face's layout are read too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate

from img3d_generators.networks.attention import attended
from img3d_generators.networks.imagenet import normalised

LAYER_NORM_EPS = 1e-6


@dataclass(frozen=True)
class Dinov2Config:
    """The architecture; the defaults are those of ViT-L/14 with 4 registers."""

    embed_dim: int = 1024
    """Channels of a token."""
    depth: int = 24
    """Number of blocks."""
    num_heads: int = 16
    """Heads of the attentions."""
    patch_size: int = 14
    """Height and width in pixels of the patches that become tokens."""
    img_size: int = 518
    """Height and width in pixels of the images to which the position embeddings belong."""
    num_register_tokens: int = 4
    """Number of additional tokens that belong to no patch."""
    mlp_ratio: int = 4
    """Channels inside an MLP, in multiples of the tokens'."""


class Dinov2(nn.Module):
    """The network."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        size = config.embed_dim
        self.config = config
        self.grid = config.img_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, size))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, size))
        self.mask_token = nn.Parameter(torch.zeros(1, size))  # for training; in published files
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size, config.patch_size, stride=config.patch_size)})
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(size, LAYER_NORM_EPS)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T D"]:
        """Tokens before the last normalisation: of the class, the registers, then the patches row by row.

        Args:
            images: In [0, 1]; sides divisible by the patch size.
        """
        patches = self.patch_embed["proj"](normalised(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        tokens = tokens + self.positions(*images.shape[-2:])
        registers = self.register_tokens.expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def positions(self, height: int, width: int) -> Float[Tensor, "1 T D"]:
        """The position embeddings for images of another size, interpolated bicubically."""
        size = height // self.config.patch_size, width // self.config.patch_size
        if size == (self.grid, self.grid):
            return self.pos_embed
        of_class, of_patches = self.pos_embed.split([1, self.grid**2], dim=1)
        grid = of_patches.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        grid = interpolate(grid, size=size, mode="bicubic", antialias=True)
        return torch.cat([of_class, grid.flatten(2).transpose(1, 2)], dim=1)


class Block(nn.Module):
    """Self-attention and an MLP, each after a layer normalisation and with a shortcut, scaled by learned factors."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        size, hidden = config.embed_dim, config.mlp_ratio * config.embed_dim
        self.num_heads = config.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(size, LAYER_NORM_EPS), nn.LayerNorm(size, LAYER_NORM_EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(size, 3 * size), "proj": nn.Linear(size, size)})
        self.ls1, self.ls2 = LayerScale(size), LayerScale(size)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(size, hidden), "fc2": nn.Linear(hidden, size)})

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        q, k, v = self.attn["qkv"](self.norm1(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.ls1(self.attn["proj"](attended(q, k, v, self.num_heads)))
        return tokens + self.ls2(self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(tokens)))))


class LayerScale(nn.Module):
    """A learned factor of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return tokens * self.gamma


HUGGING_FACE_NAMES = {
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "layernorm.": "norm.",
}
"""Parts of names, which are replaced in this order."""
SEPARATE = (
    ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
)
"""Hugging Face's names of the three parts of `attn.qkv`, which is one weight in the authors' files; the second triple
is that of its fifth version."""


def authors_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that DINOv2's authors give them, from those or from Hugging Face's."""
    if "cls_token" in weights:
        return dict(weights)
    joined: dict[str, Tensor] = {}
    for name, value in weights.items():
        parts = next((parts for parts in SEPARATE if any(part in name for part in parts)), None)
        if parts is None:
            for theirs, ours in HUGGING_FACE_NAMES.items():
                name = name.replace(theirs, ours)
            joined[name] = value
        elif parts[0] in name:
            others = [weights.get(name.replace(parts[0], part)) for part in parts]
            if all(other is not None for other in others):
                whole = name.replace("encoder.layer.", "blocks.").replace(parts[0], "attn.qkv")
                joined[whole] = torch.cat([other for other in others if other is not None])
    return joined
