# SPDX-License-Identifier: Apache-2.0
"""Text-to-image diffusion models as guidance: Stable Diffusion 1 and 2, SDXL, and DeepFloyd IF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_generators.guidance.denoiser import noise_of
from img3d_generators.guidance.latent_space import InLatentSpace, LatentSpace
from img3d_generators.guidance.offloading import on_device
from img3d_generators.guidance.view_prompts import PromptEmbeddings, perpendicular
from img3d_generators.guidance.views import ViewAngles


@dataclass
class TextDiffusion(InLatentSpace):
    """A denoiser that is guided by a text for each side of the object. `text_files.load_text_diffusion` loads one.

    Networks may be in half precision; all other calculations are in float32.
    """

    unet: Any
    """diffusers' `UNet2DConditionModel`."""
    space: LatentSpace
    prompts: PromptEmbeddings
    alphas_cumprod: Float[Tensor, "T"]
    prediction: str = "epsilon"
    """What the network predicts: "epsilon", "v_prediction" or "sample", as in diffusers' configurations."""
    guidance_scale: float = 100.0
    """Scale of classifier-free guidance: uncond + scale * (text - uncond)."""
    perp_neg: bool = False
    """Whether to use Perp-Neg instead of one prompt for each direction."""
    device: torch.device | None = None
    """The device of the network while it computes, if it is in main memory between steps; None: it is not moved."""

    @torch.no_grad()
    def predicted_noise(
        self, noisy: Float[Tensor, "B C h w"], times: Int[Tensor, "B"], views: ViewAngles
    ) -> Float[Tensor, "B C h w"]:
        """The noise, with guidance by the prompt of each view."""
        with on_device(self.unet, self.device):
            return self._perp_neg(noisy, times, views) if self.perp_neg else self._guided(noisy, times, views)

    def _guided(self, noisy: Tensor, times: Tensor, views: ViewAngles) -> Tensor:
        count, prompts = len(noisy), self.prompts
        chosen = prompts.directions(views)
        tokens = torch.cat([prompts.of_direction[chosen], prompts.negative.expand(count, -1, -1)])
        text, without = self._predicted(noisy.repeat(2, 1, 1, 1), times.repeat(2), tokens, self._pooled(chosen)).chunk(
            2
        )
        return without + self.guidance_scale * (text - without)

    def _perp_neg(self, noisy: Tensor, times: Tensor, views: ViewAngles) -> Tensor:
        count, prompts = len(noisy), self.prompts
        positive, negatives, weights = prompts.mixed(views)
        tokens = torch.cat([positive, prompts.negative.expand(count, -1, -1), negatives[:, 0], negatives[:, 1]])
        pooled = self._pooled(prompts.directions(views), num_negatives=3)
        predicted = self._predicted(noisy.repeat(4, 1, 1, 1), times.repeat(4), tokens, pooled)
        text, without, *against = predicted.chunk(4)
        direction = text - without
        total = direction
        for i, negative in enumerate(against):
            total = total + weights[:, i, None, None, None].to(noisy) * perpendicular(negative - without, direction)
        return without + self.guidance_scale * total

    def _pooled(self, chosen: Int[Tensor, "B"], num_negatives: int = 1) -> Float[Tensor, "N P"] | None:
        prompts = self.prompts
        if prompts.pooled_of_direction is None or prompts.pooled_negative is None:
            return None
        negative = prompts.pooled_negative.expand(num_negatives * len(chosen), -1)
        return torch.cat([prompts.pooled_of_direction[chosen], negative])

    def _predicted(self, noisy: Tensor, times: Tensor, tokens: Tensor, pooled: Tensor | None) -> Tensor:
        dtype, device = self.unet.dtype, self.unet.device
        added = None
        if pooled is not None:
            size = float(self.space.size)
            ids = torch.tensor([size, size, 0.0, 0.0, size, size])  # original size, crop, target size
            added = {
                "text_embeds": pooled.to(device, dtype),
                "time_ids": ids.expand(len(noisy), -1).to(device, dtype),
            }
        output = self.unet(
            noisy.to(device, dtype), times.to(device), encoder_hidden_states=tokens.to(device, dtype),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        output = output[:, : noisy.shape[1]].float().to(noisy.device)  # IF's network also predicts variances
        alphas = self.alphas_cumprod.to(noisy)[times.to(noisy.device)][:, None, None, None]
        return noise_of(output, noisy, alphas, self.prediction)
