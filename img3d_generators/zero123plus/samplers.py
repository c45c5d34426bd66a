# SPDX-License-Identifier: Apache-2.0
"""Samplers: how latents go from noise to a picture, step by step, given what the network predicts (v).

Latents are in a sampler's own scale: `scaled` gives the network's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import EulerAncestralDiscreteScheduler

Quality = Literal["full", "fast"]
"""Of Zero123++'s sampler: "full" is the authors', "fast" takes half as many steps of a solver of second order, which
gives other pictures."""


class Sampler(Protocol):
    """A way from noise to a picture."""

    timesteps: Tensor
    """`[S]`: the network's time of each step."""
    sigmas: list[float]
    """Noise level of each step: noise per unit of signal."""
    renews_noise: bool
    """Whether the reference gets other noise in each step. Solvers of higher order need a network that changes smoothly
    from step to step, so there it keeps its noise."""

    def first(self, noise: Float[Tensor, "1 C h w"]) -> Float[Tensor, "1 C h w"]:
        """The latents before the first step, of standard normal noise."""
        ...

    def scaled(self, latents: Float[Tensor, "1 C h w"], step: int) -> Float[Tensor, "1 C h w"]:
        """The network's input."""
        ...

    def after(
        self, step: int, prediction: Float[Tensor, "1 C h w"], latents: Float[Tensor, "1 C h w"], noise: Tensor | None
    ) -> Float[Tensor, "1 C h w"]:
        """The latents after a step; the noise is for samplers that renew it."""
        ...


def sampler_of(quality: Quality, scheduler: EulerAncestralDiscreteScheduler, num_steps: int) -> Sampler:
    """The sampler of a quality.

    Args:
        quality: Which one.
        scheduler: The published one.
        num_steps: Steps of the authors' sampler; "fast" takes half as many.
    """
    return Ancestral(scheduler, num_steps) if quality == "full" else DpmSolver(scheduler, (num_steps + 1) // 2)


class Ancestral:
    """The authors' sampler: ancestral Euler. Latents are signal plus `sigma` times noise."""

    renews_noise = True

    def __init__(self, scheduler: EulerAncestralDiscreteScheduler, num_steps: int) -> None:
        scheduler.set_timesteps(num_steps)
        self.timesteps, self.sigmas = scheduler.timesteps, scheduler.sigmas.tolist()

    def first(self, noise: Tensor) -> Tensor:
        """Implements `Sampler`."""
        return noise * self.sigmas[0]

    def scaled(self, latents: Tensor, step: int) -> Tensor:
        """Implements `Sampler`."""
        return (self.sigmas[step] ** 2 + 1) ** -0.5 * latents

    def after(self, step: int, prediction: Tensor, latents: Tensor, noise: Tensor | None) -> Tensor:
        """Implements `Sampler`."""
        assert noise is not None
        return ancestral_step(prediction, latents, self.sigmas[step], self.sigmas[step + 1], noise)


class DpmSolver:
    """DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), multistep, of second order, by diffusers.

    It solves the ordinary differential equation that leads from noise to the same distribution of pictures, without
    new noise. The first step is at the last time of training, as with the authors' trailing spacing, and the logarithms
    of the noise levels are evenly spaced, as in its paper: where the answer is known, 14 such steps are at least four
    times as exact as 28 of Euler's. Latents have variance 1.
    """

    renews_noise = False

    def __init__(self, scheduler: EulerAncestralDiscreteScheduler, num_steps: int) -> None:
        from diffusers import DPMSolverMultistepScheduler

        solver = DPMSolverMultistepScheduler.from_config(
            scheduler.config,
            algorithm_type="dpmsolver++",
            solver_order=2,
            timestep_spacing="trailing",
            use_lu_lambdas=True,
        )
        assert isinstance(solver, DPMSolverMultistepScheduler)
        solver.set_timesteps(num_steps)
        self._solver, self.timesteps, self.sigmas = solver, solver.timesteps, solver.sigmas.tolist()

    def first(self, noise: Tensor) -> Tensor:
        """Implements `Sampler`."""
        return noise * self._solver.init_noise_sigma

    def scaled(self, latents: Tensor, step: int) -> Tensor:
        """Implements `Sampler`."""
        return latents

    def after(self, step: int, prediction: Tensor, latents: Tensor, noise: Tensor | None) -> Tensor:
        """Implements `Sampler`."""
        return self._solver.step(prediction, self.timesteps[step], latents, return_dict=False)[0]


def ancestral_step(
    prediction: Tensor, latents: Tensor, sigma: float, next_sigma: float, noise: Tensor
) -> Float[Tensor, "1 4 h w"]:
    """One step of the ancestral Euler sampler (Karras et al. 2022, arXiv 2206.00364, as in k-diffusion).

    Equivalent to diffusers' `EulerAncestralDiscreteScheduler.step`, which draws the noise itself.

    Args:
        prediction: The predicted v, for latents scaled by 1/sqrt(sigma² + 1).
        latents: Latents at noise level `sigma`.
        sigma: The current noise level.
        next_sigma: The next noise level.
        noise: Standard normal noise.
    """
    denoised = latents / (sigma**2 + 1) - prediction * sigma / (sigma**2 + 1) ** 0.5
    added = next_sigma * (1 - (next_sigma / sigma) ** 2) ** 0.5
    kept = (next_sigma**2 - added**2) ** 0.5
    return denoised + (latents - denoised) * (kept / sigma) + added * noise
