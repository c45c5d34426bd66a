# SPDX-License-Identifier: Apache-2.0
"""LGM (Tang et al. 2024, arXiv 2402.05054): turns a few posed views of an object into Gaussians in one pass of a
U-Net.

Every pixel of every view becomes one Gaussian; attention in the U-Net's coarse levels connects the views. The
network does not depend on the number of views: the published weights were trained on 4 and also accept 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, scaled_dot_product_attention, softplus

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_base.errors import InputError
from img3d_generators.cameras import plucker_rays
from img3d_generators.networks.imagenet import normalised
from img3d_generators.weights.state_dicts import load_weights, read_state_dict, sha256_of

NUM_HEADS = 16
RESIDUAL_SCALE = math.sqrt(0.5)
"""Keeps the variance of a sum of two branches equal to that of one."""
VALUES_PER_GAUSSIAN = 14
"""The order of the network's output channels: position 3, opacity 1, scale 3, rotation 4 (w, x, y, z), rgb 3."""

PRE_FIX_NAMES = ("model.safetensors", "model_fp16.safetensors")
"""Files that were published before a fix of the normalisation of rotations. Keys, shapes and sizes are the same as
in the files that replaced them; only the names differ."""
FIXED_SHA256 = ("744d6324", "186631d0")
"""First digits of the SHA-256 of the replacements, model_fp16_fixrot.safetensors and model_fixrot.safetensors."""


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a U-Net; the defaults are those of the published LGM, "big"."""

    in_channels: int = 9
    """Channels of the input: 3 of colour, 6 of Plücker rays."""
    out_channels: int = VALUES_PER_GAUSSIAN
    """Channels of the output."""
    down_channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 1024)
    """Channels of each level of the encoder; every level halves height and width."""
    down_attention: tuple[bool, ...] = (False, False, False, True, True, True)
    """Which of these levels have attention over all views."""
    up_channels: tuple[int, ...] = (1024, 1024, 512, 256, 128)
    """Channels of each level of the decoder, the coarsest first. With one level less than the encoder, the output is
    half as large."""
    up_attention: tuple[bool, ...] = (True, True, True, False, False)
    """Which of these levels have attention over all views."""
    layers_per_block: int = 2
    """Residual blocks in each level of the encoder; the decoder has one more per level."""
    num_groups: int = 32
    """Number of groups of the group normalisations."""


LGM_INPUT_SIZE = 256
LGM_CONFIGS = {
    "big": UNetConfig(),
    "small": UNetConfig(up_channels=(1024, 1024, 512, 256), up_attention=(True, True, True, False)),
    "tiny": UNetConfig(
        down_channels=(32, 64, 128, 256, 512),
        down_attention=(False, False, False, False, True),
        up_channels=(512, 256, 128),
        up_attention=(True, False, False),
    ),
}
"""The authors' three sizes. Inputs are 256 x 256; outputs per view are 128 x 128 for "big" and 64 x 64 for the other
two."""


class LGM(nn.Module):
    """The network. `forward` returns its raw output, `generate` the Gaussians of one object."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.unet = UNet(config)
        self.conv = nn.Conv2d(config.out_channels, config.out_channels, 1)

    def forward(self, views: Float[Tensor, "B V C H W"]) -> Float[Tensor, "B V D h w"]:
        """The channels of each pixel's Gaussian, before the activations."""
        raw = self.conv(self.unet(views.flatten(0, 1), num_views=views.shape[1]))
        return raw.unflatten(0, views.shape[:2])

    @torch.no_grad()
    def generate(self, views: Float[Tensor, "V 9 S S"]) -> ActivatedGaussians:
        """Generates the Gaussians of `views`, in the world of their rays, one per output pixel: view by view, row by
        row.

        Args:
            views: The output of `network_input`; the first pose should be [I | (0, 0, 1.5)].
        """
        raw = self(views.to(self.conv.weight)[None])[0]
        return activated(raw.float().permute(0, 2, 3, 1).reshape(-1, VALUES_PER_GAUSSIAN))


def network_input(
    images: Float[Tensor, "V 3 H W"], camera_to_worlds: Float[Tensor, "V 3 4"], fov: float, size: int = LGM_INPUT_SIZE
) -> Float[Tensor, "V 9 S S"]:
    """LGM's input: ImageNet-normalised colours, and the rays through the pixels.

    Args:
        images: Square pictures on white, in [0, 1].
        camera_to_worlds: OpenGL axes, at distance 1.5 from the origin.
        fov: Field of view of the pictures in degrees.
        size: Height and width to which the pictures are resized.
    """
    images = interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    return torch.cat([normalised(images), plucker_rays(camera_to_worlds, fov, size).to(images)], dim=1)


def activated(raw: Float[Tensor, "N 14"]) -> ActivatedGaussians:
    """Applies LGM's activations: positions within [-1, 1], scales around 0.07."""
    position, opacity, scale, rotation, rgb = raw.split([3, 1, 3, 4, 3], dim=-1)
    return ActivatedGaussians(
        means=position.clamp(-1, 1),
        quats=normalize(rotation, dim=-1),
        scales=0.1 * softplus(scale),
        opacities=opacity[:, 0].sigmoid(),
        colors=0.5 * rgb.tanh() + 0.5,
    )


def load_lgm(path: Path, config: UNetConfig = LGM_CONFIGS["big"], dtype: torch.dtype = torch.float32) -> LGM:
    """Loads the network with the weights of a safetensors file, ready to generate.

    Args:
        path: The file, in float32 or float16.
        config: The architecture of the weights.
        dtype: Data type of the computation: float32, bfloat16 or float16.

    Raises:
        InputError: The file is missing, damaged, for another network, or from before the fix of rotations.
    """
    if path.name in PRE_FIX_NAMES and path.is_file() and not sha256_of(path).startswith(FIXED_SHA256):
        raise InputError(
            f"{path} is from before a fix of LGM's rotations, and would give wrong Gaussians: use "
            "model_fp16_fixrot.safetensors of the same repository (or rename the file if you trained it yourself)"
        )
    with torch.device("meta"):
        model = LGM(config)
    load_weights(model, read_state_dict(path), path, dtype)
    return model


class UNet(nn.Module):
    """LGM's U-Net: residual blocks, attention over all views in the coarse levels, and skip connections from every
    block."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels, groups, layers = config.down_channels[0], config.num_groups, config.layers_per_block
        self.conv_in = nn.Conv2d(config.in_channels, channels, 3, padding=1)
        skips = [channels]  # channels of the skip connections

        self.down_blocks = nn.ModuleList()
        for level, (out_channels, attention) in enumerate(
            zip(config.down_channels, config.down_attention, strict=True)
        ):
            last = level == len(config.down_channels) - 1
            in_channels = [channels] + [out_channels] * (layers - 1)
            self.down_blocks.append(DownBlock(in_channels, out_channels, attention, not last, groups))
            skips += [out_channels] * (layers if last else layers + 1)
            channels = out_channels

        self.mid_block = MidBlock(channels, groups)

        self.up_blocks = nn.ModuleList()
        for level, (out_channels, attention) in enumerate(zip(config.up_channels, config.up_attention, strict=True)):
            last = level == len(config.up_channels) - 1
            in_channels = [skips.pop() + (channels if layer == 0 else out_channels) for layer in range(layers + 1)]
            self.up_blocks.append(UpBlock(in_channels, out_channels, attention, not last, groups))
            channels = out_channels

        self.norm_out = nn.GroupNorm(groups, channels)
        self.conv_out = nn.Conv2d(channels, config.out_channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "BV C H W"], num_views: int, added: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "BV D h w"]:
        """Height and width have to be divisible by 2 for each level but the last.

        Args:
            x: All views.
            num_views: Number of views of each object.
            added: What else is known, for each level of the encoder: it is added to the level's input.
        """
        x = self.conv_in(x)
        skips = [x]
        for level, block in enumerate(self.down_blocks):
            if added is not None:
                x = skips[-1] = x + added[level]
            x = block(x, skips, num_views)
        x = self.mid_block(x, num_views)
        for block in self.up_blocks:
            x = block(x, skips, num_views)
        return self.conv_out(nn.functional.silu(self.norm_out(x)))


class DownBlock(nn.Module):
    """One level of the encoder; appends its outputs to `skips`."""

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, attention: bool, downsample: bool, groups: int
    ) -> None:
        super().__init__()
        self.nets, self.attns = _layers(in_channels, out_channels, attention, groups)
        self.downsample = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1) if downsample else None

    def forward(self, x: Tensor, skips: list[Tensor], num_views: int) -> Tensor:
        for net, attention in zip(self.nets, self.attns, strict=True):
            x = attention(net(x), num_views)
            skips.append(x)
        if self.downsample is not None:
            x = self.downsample(x)
            skips.append(x)
        return x


class MidBlock(nn.Module):
    """The coarsest level: attention between two residual blocks."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList([ResnetBlock(channels, channels, groups) for _ in range(2)])
        self.attns = nn.ModuleList([MVAttention(channels, groups)])

    def forward(self, x: Tensor, num_views: int) -> Tensor:
        return self.nets[1](self.attns[0](self.nets[0](x), num_views))


class UpBlock(nn.Module):
    """One level of the decoder; pops the encoder's outputs from `skips`."""

    def __init__(
        self, in_channels: Sequence[int], out_channels: int, attention: bool, upsample: bool, groups: int
    ) -> None:
        super().__init__()
        self.nets, self.attns = _layers(in_channels, out_channels, attention, groups)
        self.upsample = nn.Conv2d(out_channels, out_channels, 3, padding=1) if upsample else None

    def forward(self, x: Tensor, skips: list[Tensor], num_views: int) -> Tensor:
        for net, attention in zip(self.nets, self.attns, strict=True):
            x = attention(net(torch.cat([x, skips.pop()], dim=1)), num_views)
        if self.upsample is not None:
            x = self.upsample(interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class ResnetBlock(nn.Module):
    """Two convolutions with group normalisation and a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "BV C H W"]) -> Float[Tensor, "BV D H W"]:
        residual = self.conv1(nn.functional.silu(self.norm1(x)))
        residual = self.conv2(nn.functional.silu(self.norm2(residual)))
        return (residual + self.shortcut(x)) * RESIDUAL_SCALE


class MVAttention(nn.Module):
    """Self-attention over the pixels of all views of an object together, without an encoding of the view."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.attn = Attention(channels)

    def forward(self, x: Float[Tensor, "BV C H W"], num_views: int) -> Float[Tensor, "BV C H W"]:
        views, channels, height, width = x.shape
        tokens = self.norm(x).view(-1, num_views, channels, height * width).transpose(2, 3).flatten(1, 2)
        attended = self.attn(tokens).unflatten(1, (num_views, height * width)).transpose(2, 3)
        return (x + attended.reshape(views, channels, height, width)) * RESIDUAL_SCALE


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        q, k, v = self.qkv(tokens).unflatten(-1, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class NoAttention(nn.Module):
    """Placeholder for levels without attention."""

    def forward(self, x: Tensor, num_views: int) -> Tensor:
        return x


def _layers(
    in_channels: Sequence[int], out_channels: int, attention: bool, groups: int
) -> tuple[nn.ModuleList, nn.ModuleList]:
    nets = [ResnetBlock(channels, out_channels, groups) for channels in in_channels]
    attentions = [MVAttention(out_channels, groups) if attention else NoAttention() for _ in in_channels]
    return nn.ModuleList(nets), nn.ModuleList(attentions)
