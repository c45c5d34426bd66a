# SPDX-License-Identifier: Apache-2.0
"""Follows a flow from noise to an object by Euler steps (Lipman et al. 2023, arXiv 2210.02747), with classifier-free
guidance in an interval of the time (Kynkäänniemi et al. 2024, arXiv 2404.07724)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

MODEL_TIME = 1000.0
"""The time at noise as networks take it; the flow's time there is 1."""

Condition = TypeVar("Condition")
SeveralImages = Literal["stochastic", "multidiffusion"]
"""How several images of one object are used: "stochastic": one image in each step, in turn; "multidiffusion": the mean
of the velocities for all images."""


@dataclass(frozen=True)
class SamplerSettings:
    """How a flow is sampled."""

    steps: int
    """Number of steps."""
    guidance: float = 0.0
    """Strength s of classifier-free guidance: (1 + s) * conditional - s * unconditional velocity."""
    interval: tuple[float, float] = (0.0, 1.0)
    """First and last time with guidance, both included."""
    rescale: float = 1.0
    """The time t of even steps becomes r t / (1 + (r - 1) t); larger values make steps denser near noise."""

    def times(self) -> Float64[np.ndarray, "T"]:
        """The times at which steps start and end, from 1 (noise) to 0."""
        even = np.linspace(1, 0, self.steps + 1)
        return self.rescale * even / (1 + (self.rescale - 1) * even)

    def is_guided(self, time: float) -> bool:
        """Whether the step that starts at this time has guidance."""
        return self.guidance != 0 and self.interval[0] <= time <= self.interval[1]

    def velocities(self, images: int = 1, several: SeveralImages = "stochastic", after: int = 0) -> int:
        """Number of velocities that the steps evaluate in all.

        Args:
            images: Number of images.
            several: How they are used.
            after: Number of the first steps that are not counted.
        """
        of_step = images if several == "multidiffusion" else 1
        return sum(of_step + self.is_guided(time) for time in self.times()[after:-1])


Velocity = Callable[[Tensor, Tensor, Sequence[Condition]], Tensor]
"""A network: takes B states, the time (1000 at noise) and a condition for each state; returns B velocities."""


@dataclass(frozen=True)
class Sampler(Generic[Condition]):
    """Follows a flow, one step at a time."""

    velocity: Velocity[Condition]
    conditions: Sequence[Condition]
    """The condition of each image."""
    negative: Condition
    """The condition without an image, for guidance."""
    settings: SamplerSettings
    several: SeveralImages = "stochastic"

    def step(self, state: Float[Tensor, "1 ..."], index: int) -> Float[Tensor, "1 ..."]:
        """The state after a step.

        Args:
            state: Noise, or the result of the step before.
            index: Index of the step, from 0.
        """
        times = self.settings.times()
        now, then = float(times[index]), float(times[index + 1])
        used = [self.conditions[index % len(self.conditions)]] if self.several == "stochastic" else self.conditions
        guided = self.settings.is_guided(now)
        asked = [*used, self.negative] if guided else used
        time = torch.tensor([MODEL_TIME * now], dtype=torch.float32, device=state.device)
        found = self.velocity(state.expand(len(asked), *state.shape[1:]), time, asked)
        velocity = found[: len(used)].mean(dim=0, keepdim=True)
        if guided:
            velocity = (1 + self.settings.guidance) * velocity - self.settings.guidance * found[-1:]
        return state - (now - then) * velocity
