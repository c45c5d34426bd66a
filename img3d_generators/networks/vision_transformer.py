# SPDX-License-Identifier: Apache-2.0
"""The vision transformer of DINO (Dosovitskiy et al. 2021, Caron et al. 2021), which turns an image into tokens.

Names of weights are those of Hugging Face's ViT before its fifth version, in which published networks store them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from img3d_generators.networks.attention import attended
from img3d_generators.networks.imagenet import normalised

LAYER_NORM_EPS = 1e-12
SCALE_OFFSET = 0.1
"""Added to the number of patches per side before the position embeddings are scaled, as DINO did to be safe from
rounding. It shifts the samples; networks were trained with it."""


@dataclass(frozen=True)
class VitConfig:
    """The architecture; the defaults are those of DINO's ViT-B/16."""

    hidden_size: int = 768
    """Channels of a token."""
    intermediate_size: int = 3072
    """Channels inside the layers' MLPs."""
    num_hidden_layers: int = 12
    """Number of layers."""
    num_attention_heads: int = 12
    """Heads of the attentions."""
    patch_size: int = 16
    """Height and width in pixels of the patches that become tokens."""
    image_size: int = 224
    """Height and width in pixels of the images to which the position embeddings belong."""


class VisionTransformer(nn.Module):
    """The network.

    Args:
        config: The architecture.
        modulated: Whether a condition shifts and scales the normalised tokens of each layer (Peebles and Xie 2022,
            arXiv 2212.09748).
        has_pooler: Whether the weights contain DINO's pooler, which is not used.
    """

    def __init__(self, config: VitConfig, modulated: bool = False, has_pooler: bool = True) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        layers = [VitLayer(config, modulated) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})
        self.layernorm = nn.LayerNorm(config.hidden_size, LAYER_NORM_EPS)
        if has_pooler:
            self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})

    def forward(
        self, images: Float[Tensor, "B 3 H W"], condition: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B T D"]:
        """Tokens of images, the class token first, then the patches row by row.

        Args:
            images: In [0, 1]; sides divisible by the patch size.
            condition: The condition of each image, if the network is modulated.
        """
        tokens = self.embeddings(normalised(images))
        for layer in self.encoder["layer"]:  # pyright: ignore[reportGeneralTypeIssues]
            tokens = layer(tokens, condition)
        return self.layernorm(tokens)


class PatchEmbeddings(nn.Module):
    """Patches as tokens, with their positions."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.grid**2, config.hidden_size))
        self.patch_embeddings = nn.ModuleDict(
            {"projection": nn.Conv2d(3, config.hidden_size, config.patch_size, stride=config.patch_size)}
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B T D"]:
        patches = self.patch_embeddings["projection"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + self.positions(*images.shape[-2:])

    def positions(self, height: int, width: int) -> Float[Tensor, "1 T D"]:
        """The position embeddings for images of another size, interpolated bicubically."""
        rows, columns = height // self.patch_size, width // self.patch_size
        if rows == columns == self.grid:
            return self.position_embeddings
        of_class, of_patches = self.position_embeddings.split([1, self.grid**2], dim=1)
        grid = of_patches.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        scale = ((rows + SCALE_OFFSET) / self.grid, (columns + SCALE_OFFSET) / self.grid)
        grid = interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([of_class, grid.flatten(2).transpose(1, 2)], dim=1)


class VitLayer(nn.Module):
    """Self-attention and an MLP, each after a layer normalisation and with a shortcut."""

    def __init__(self, config: VitConfig, modulated: bool = False) -> None:
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_attention_heads
        parts = {name: nn.Linear(size, size) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {"attention": nn.ModuleDict(parts), "output": nn.ModuleDict({"dense": nn.Linear(size, size)})}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, config.intermediate_size)})
        self.output = nn.ModuleDict({"dense": nn.Linear(config.intermediate_size, size)})
        self.layernorm_before = nn.LayerNorm(size, LAYER_NORM_EPS)
        self.layernorm_after = nn.LayerNorm(size, LAYER_NORM_EPS)
        if modulated:
            self.adaLN_modulation = nn.ModuleDict({"1": nn.Linear(size, 4 * size)})

    def forward(
        self, tokens: Float[Tensor, "B T D"], condition: Float[Tensor, "B D"] | None = None
    ) -> Float[Tensor, "B T D"]:
        if condition is None:
            tokens = tokens + self.attend(self.layernorm_before(tokens))
            return tokens + self.mlp(self.layernorm_after(tokens))
        modulation = self.adaLN_modulation["1"](nn.functional.silu(condition))[:, None]
        shift_before, scale_before, shift_after, scale_after = modulation.chunk(4, dim=-1)
        tokens = tokens + self.attend(self.layernorm_before(tokens) * (1 + scale_before) + shift_before)
        return tokens + self.mlp(self.layernorm_after(tokens) * (1 + scale_after) + shift_after)

    def attend(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Multi-head self-attention."""
        parts: nn.ModuleDict = self.attention["attention"]  # pyright: ignore[reportAssignmentType]
        q, k, v = (parts[name](tokens) for name in ("query", "key", "value"))
        return self.attention["output"]["dense"](attended(q, k, v, self.num_heads))  # pyright: ignore

    def mlp(self, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Two linear layers with a GELU between them."""
        return self.output["dense"](nn.functional.gelu(self.intermediate["dense"](tokens)))
