# SPDX-License-Identifier: Apache-2.0
"""Reference attention: a UNet that copies the appearance of a picture, because its self-attention also sees that
picture.

As in Zero123++ (Shi et al. 2023, arXiv 2310.15110), the network runs once on the noised reference and keeps the
input of each self-attention layer, then runs on the sample with those tokens added to its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class ReferenceUNet:
    """Runs a diffusers UNet with reference attention, by replacing its attention processors through diffusers' API."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        self._tokens: dict[str, Tensor] = {}
        self._is_reference = False
        unet.set_attn_processor(
            {
                name: _SelfAttention(self, name) if name.endswith("attn1.processor") else AttnProcessor2_0()
                for name in unet.attn_processors
            }
        )

    def __call__(
        self,
        sample: Float[Tensor, "B C H W"],
        reference: Float[Tensor, "B C h w"],
        timestep: Tensor,
        embeds: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B C H W"]:
        """The network's output for the sample, conditioned on the reference, in the UNet's dtype.

        Args:
            sample: Noisy latents.
            reference: Latents of the reference pictures, with the same amount of noise; their size may differ.
            timestep: The diffusion timestep.
            embeds: Tokens for cross-attention.
        """
        self._is_reference = True
        self.unet(reference, timestep, encoder_hidden_states=embeds, return_dict=False)
        self._is_reference = False
        return self.unet(sample, timestep, encoder_hidden_states=embeds, return_dict=False)[0]

    def _with_reference(self, layer: str, tokens: Float[Tensor, "B T D"]) -> Float[Tensor, "B S D"]:
        if self._is_reference:
            self._tokens[layer] = tokens
            return tokens
        return torch.cat([tokens, self._tokens.pop(layer)], dim=1)


class _SelfAttention(AttnProcessor2_0):
    """diffusers' scaled dot-product attention with the reference's tokens among keys and values."""

    def __init__(self, owner: ReferenceUNet, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        tokens = self.owner._with_reference(self.name, hidden_states)
        return super().__call__(attn, hidden_states, tokens, attention_mask, temb)
