# SPDX-License-Identifier: Apache-2.0
"""What score distillation asks of a diffusion model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_generators.guidance.views import ViewAngles


@runtime_checkable
class Denoiser(Protocol):
    """A diffusion model that knows what pictures from the asked views should look like."""

    @property
    def alphas_cumprod(self) -> Float[Tensor, "T"]:
        """For each noise level, the share of the picture's variance: noisy = sqrt(a) picture + sqrt(1 - a) noise."""
        ...

    def latents(self, pictures: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B C h w"]:
        """The pictures in the space in which the model works. Differentiable.

        Args:
            pictures: RGB in [0, 1].
            generator: Source of the encoder's random numbers, on the CPU.
        """
        ...

    def predicted_noise(
        self, noisy: Float[Tensor, "B C h w"], times: Int[Tensor, "B"], views: ViewAngles
    ) -> Float[Tensor, "B C h w"]:
        """The noise in noisy latents, with the model's own guidance (of a text, say) applied. Without gradients.

        Args:
            noisy: The latents with noise.
            times: Their noise levels.
            views: From where they are seen.
        """
        ...


@runtime_checkable
class PictureDenoiser(Denoiser, Protocol):
    """A model that can also turn latents into pictures."""

    def pictures(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures of latents, RGB in [0, 1]."""
        ...


def noise_of(prediction: Tensor, noisy: Tensor, alphas: Tensor, kind: str) -> Tensor:
    """What a network predicts, as noise.

    Args:
        prediction: The network's output.
        noisy: Its input.
        alphas: The cumulative alphas of the noise levels, in a shape that broadcasts.
        kind: "epsilon", "v_prediction" or "sample", as in diffusers' configurations of schedulers.

    Raises:
        ValueError: Another kind.
    """
    if kind == "epsilon":
        return prediction
    if kind == "v_prediction":
        return alphas.sqrt() * prediction + (1 - alphas).sqrt() * noisy
    if kind == "sample":
        return (noisy - alphas.sqrt() * prediction) / (1 - alphas).sqrt()
    raise ValueError(f"a network that predicts {kind} is not known")


def alphas_cumprod(scheduler: dict[str, object]) -> Float[Tensor, "T"]:
    """The cumulative alphas that the configuration of one of diffusers' schedulers describes."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(scheduler).alphas_cumprod.float()  # pyright: ignore[reportAttributeAccessIssue]
