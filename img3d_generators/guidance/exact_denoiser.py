# SPDX-License-Identifier: Apache-2.0
"""The best possible denoiser of a known object, in closed form: it needs no training and no weights.

If every picture from a view is one of finitely many, the mean of the picture given its noisy version is their mean,
weighted with the likelihood of the noise. In place of a network it shows whether cameras, signs, schedules and losses
are right: whatever is optimised has to become the object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from img3d_generators.guidance.views import ViewAngles

Renderer = Callable[[ViewAngles, int], Float[Tensor, "N 3 S S"]]
"""Renders the object from views, as pictures of this width and height, RGB in [0, 1]; several of each view, maybe."""


def stable_diffusion_alphas() -> Float[Tensor, "T"]:
    """The cumulative alphas of Stable Diffusion: variances whose square roots rise evenly."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(dim=0).float()


@dataclass
class ExactDenoiser:
    """Knows all pictures that there are from a view: one from the view itself and others from around it."""

    render: Renderer
    offsets: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    """Elevations and azimuths, in degrees, by which views can be off: a network does not know exactly from where a
    picture was taken either."""
    alphas_cumprod: Float[Tensor, "T"] = field(default_factory=stable_diffusion_alphas)

    def latents(self, pictures: Float[Tensor, "B 3 H W"], generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
        """The pictures themselves, in [-1, 1]."""
        return 2 * pictures - 1

    def pictures(self, latents: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The opposite of `latents`."""
        return (latents / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def predicted_noise(
        self, noisy: Float[Tensor, "B 3 H W"], times: Int[Tensor, "B"], views: ViewAngles
    ) -> Float[Tensor, "B 3 H W"]:
        """The noise between a picture and the mean of what it can have been."""
        size = noisy.shape[-1]
        predicted = torch.empty_like(noisy)
        for i in range(len(noisy)):
            alpha = self.alphas_cumprod.to(noisy)[times[i]]
            seen = self.render(self._around(views[i : i + 1]), size).to(noisy)
            predicted[i] = noise_given(noisy[i], 2 * seen - 1, alpha)
        return predicted

    def _around(self, view: ViewAngles) -> ViewAngles:
        offsets = torch.tensor(self.offsets).to(view.elevations)
        return ViewAngles(
            view.elevations + offsets[:, 0], view.azimuths + offsets[:, 1], view.distances.expand(len(offsets))
        )


def noise_given(
    noisy: Float[Tensor, "3 S S"], candidates: Float[Tensor, "N 3 S S"], alpha: Float[Tensor, ""]
) -> Float[Tensor, "3 S S"]:
    """The expected noise in a picture that is one of the candidates, all equally likely, with noise.

    Args:
        noisy: sqrt(alpha) candidate + sqrt(1 - alpha) noise.
        candidates: All possible pictures.
        alpha: The share of the picture's variance.
    """
    residuals = (noisy - alpha.sqrt() * candidates).double()
    log_likelihoods = -residuals.square().sum(dim=(1, 2, 3)) / (2 * (1 - alpha.double()))
    shares = log_likelihoods.softmax(dim=0)
    return ((shares[:, None, None, None] * residuals).sum(dim=0) / (1 - alpha.double()).sqrt()).to(noisy)
