# SPDX-License-Identifier: Apache-2.0
"""Score distillation sampling (DreamFusion, arXiv 2209.14988): the gradient that brings renders nearer to what a
diffusion model makes of them after some noise was added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.denoiser import Denoiser, PictureDenoiser
from img3d_generators.guidance.schedules import NUM_TIMES, RandomTimes, Times
from img3d_generators.guidance.views import ViewAngles

Weighting = Literal["sds", "uniform", "fantasia3d"]
"""Weight of a noise level: "sds" is the noise's variance, as in DreamFusion; "uniform" 1; "fantasia3d" sqrt(a) (1 - a),
which is small for high levels, too."""


@runtime_checkable
class Guidance(Protocol):
    """Says how renders should change."""

    def loss(
        self, pictures: Float[Tensor, "B 3 H W"], views: ViewAngles, step: int, progress: float
    ) -> Float[Tensor, ""]:
        """A number whose gradient with respect to the pictures is the guidance; its value has no other meaning.

        Args:
            pictures: Renders, RGB in [0, 1], in any size.
            views: From where they were rendered.
            step: The step, from 0.
            progress: The part of the run that is over, in [0, 1].

        Raises:
            InputError: The model's numbers are not finite.
        """
        ...


@dataclass
class ScoreDistillation:
    """Guidance by a diffusion model. Its random numbers depend on the seed only."""

    denoiser: Denoiser
    times: Times = field(default_factory=RandomTimes)
    weighting: Weighting = "sds"
    clip: float = 0.0
    """Largest absolute value of an element of the gradient; 0: any."""
    seed: int = 0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def loss(
        self, pictures: Float[Tensor, "B 3 H W"], views: ViewAngles, step: int, progress: float
    ) -> Float[Tensor, ""]:
        latents = self.denoiser.latents(pictures, self._generator)
        times = self.times.draw(len(latents), step, progress, self._generator)
        noise = torch.randn(latents.shape, generator=self._generator).to(latents)
        gradient = self.gradient(latents.detach(), views, times, noise)
        return surrogate(latents, gradient)

    @torch.no_grad()
    def gradient(
        self, latents: Float[Tensor, "B C h w"], views: ViewAngles, times: Int[Tensor, "B"], noise: Tensor
    ) -> Float[Tensor, "B C h w"]:
        """The gradient with respect to each of the latents: weight * (predicted - added noise).

        Args:
            latents: The renders, as the model sees them.
            views: From where they were rendered.
            times: Noise levels.
            noise: Standard normal noise.

        Raises:
            InputError: The model's prediction, or a render, is not finite.
        """
        times = times.to(latents.device)
        alphas = self.denoiser.alphas_cumprod.to(latents)[times][:, None, None, None]
        noisy = with_noise(latents, alphas, noise)
        predicted = self.denoiser.predicted_noise(noisy, times, views)
        if not (torch.isfinite(predicted).all() and torch.isfinite(latents).all()):
            whose = "the render" if not torch.isfinite(latents).all() else "the guidance's prediction"
            raise InputError(
                f"{whose} is not finite (NaN or infinite) at noise level {int(times.max())}: in half precision numbers "
                "can become too large; try --pipeline.precision float32, or another --pipeline.seed"
            )
        gradient = weight(alphas, self.weighting) * (predicted - noise)
        return gradient.clamp(-self.clip, self.clip) if self.clip > 0 else gradient

    def state_dict(self) -> dict[str, Tensor]:
        """The state of the random numbers, so that a run can be continued."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues with the random numbers of another run."""
        self._generator.set_state(state["generator"].cpu())


def surrogate(latents: Float[Tensor, "B C h w"], gradient: Float[Tensor, "B C h w"]) -> Float[Tensor, ""]:
    """A loss whose gradient with respect to the latents is the given one over the size of the batch."""
    target = (latents - gradient).detach()
    return 0.5 * (latents - target).square().sum() / len(latents)


def with_noise(latents: Tensor, alphas: Tensor, noise: Tensor) -> Tensor:
    """Latents with noise of the levels that these cumulative alphas stand for."""
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise


def weight(alphas: Tensor, weighting: Weighting) -> Tensor:
    """The weight of noise levels."""
    if weighting == "sds":
        return 1 - alphas
    if weighting == "fantasia3d":
        return alphas.sqrt() * (1 - alphas)
    return torch.ones_like(alphas)


@torch.no_grad()
def denoised(
    denoiser: Denoiser, latents: Float[Tensor, "B C h w"], views: ViewAngles, first_time: int, num_steps: int
) -> Float[Tensor, "B C h w"]:
    """Removes noise in even steps, without adding new noise (DDIM, arXiv 2010.02502).

    Args:
        denoiser: The model.
        latents: Noisy latents.
        views: From where they are seen.
        first_time: Their noise level.
        num_steps: Number of steps of the whole way from pure noise; from `first_time` on there are fewer.
    """
    stride = NUM_TIMES // num_steps
    alphas = denoiser.alphas_cumprod.to(latents)
    for time in range(first_time, -1, -stride):
        times = torch.full((len(latents),), time, device=latents.device)
        predicted = denoiser.predicted_noise(latents, times, views)
        clean = (latents - (1 - alphas[time]).sqrt() * predicted) / alphas[time].sqrt()
        # Published pipelines set set_alpha_to_one=False: the last step leaves the noise of the lowest level.
        next_alpha = alphas[max(time - stride, 0)]
        latents = next_alpha.sqrt() * clean + (1 - next_alpha).sqrt() * predicted
    return latents


def refined(
    denoiser: PictureDenoiser,
    pictures: Float[Tensor, "B 3 H W"],
    views: ViewAngles,
    strength: float,
    num_steps: int,
    generator: torch.Generator,
) -> Float[Tensor, "B 3 S S"]:
    """Pictures that the model makes of renders: noise is added and removed again (SDEdit, arXiv 2108.01073).

    Args:
        denoiser: The model.
        pictures: Renders, RGB in [0, 1].
        views: From where they were rendered.
        strength: Share of the noise levels that is gone through, in (0, 1].
        num_steps: Number of steps of the whole way from pure noise.
        generator: Source of random numbers, on the CPU.
    """
    stride = NUM_TIMES // num_steps
    first = (max(1, min(num_steps, int(num_steps * strength))) - 1) * stride + 1
    with torch.no_grad():
        latents = denoiser.latents(pictures, generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = with_noise(latents, denoiser.alphas_cumprod.to(latents)[first], noise)
        return denoiser.pictures(denoised(denoiser, noisy, views, first, num_steps))
