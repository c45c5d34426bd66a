# SPDX-License-Identifier: Apache-2.0
"""The space in which a diffusion model works: its autoencoder's latents, or pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass
class LatentSpace:
    """The space of an autoencoder, or of pixels in [-1, 1] if there is none."""

    size: int
    """Width and height of the pictures that the model was trained with, in pixels."""
    vae: Any | None = None
    """diffusers' `AutoencoderKL`; None for models that work on pixels."""

    def encoded(self, pictures: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B C h w"]:
        """Encodes pictures as scaled latents, resized to `size`. Differentiable.

        Args:
            pictures: RGB in [0, 1], of any size.
            generator: Source of the random numbers of the autoencoder's distribution, on the CPU.
        """
        if pictures.shape[-2:] != (self.size, self.size):
            pictures = F.interpolate(pictures, size=(self.size, self.size), mode="bilinear", align_corners=False)
        pixels = 2 * pictures - 1
        if self.vae is None:
            return pixels
        posterior = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype), return_dict=False)[0]
        mean, std = posterior.mean.float(), posterior.std.float()
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return ((mean + std * noise) * self.vae.config["scaling_factor"]).to(pictures.device)

    @torch.no_grad()
    def decoded(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 S S"]:
        """Decodes scaled latents to pictures, RGB in [0, 1]."""
        if self.vae is None:
            return (latents / 2 + 0.5).clamp(0, 1)
        unscaled = (latents / self.vae.config["scaling_factor"]).to(self.vae.device, self.vae.dtype)
        pixels = self.vae.decode(unscaled, return_dict=False)[0].float()
        return (pixels / 2 + 0.5).clamp(0, 1).to(latents.device)


class InLatentSpace:
    """Mixin for a denoiser: turns pictures into latents and back."""

    space: LatentSpace

    def latents(self, pictures: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B C h w"]:
        """Encodes pictures, RGB in [0, 1], in the network's space. Differentiable."""
        return self.space.encoded(pictures, generator)

    def pictures(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Decodes latents to pictures, RGB in [0, 1]."""
        return self.space.decoded(latents)
