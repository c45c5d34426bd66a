# SPDX-License-Identifier: Apache-2.0
"""Euler steps along a flow from noise to an object (Lipman et al. 2023, arXiv 2210.02747), with guidance in a part of
the time (Kynkäänniemi et al. 2024, arXiv 2404.07724)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

MODEL_TIME = 1000.0
"""The time of the networks at noise, where that of the flow is 1."""

Condition = TypeVar("Condition")
SeveralImages = Literal["stochastic", "multidiffusion"]
"""How several images of one object are used: "stochastic", one in each step in turn; "multidiffusion", the mean of the
velocities for all of them."""


@dataclass(frozen=True)
class SamplerSettings:
    """How a flow is followed."""

    steps: int
    """Number of steps."""
    guidance: float = 0.0
    """How far the velocity is taken beyond that of the condition, in multiples of its difference to that of none."""
    interval: tuple[float, float] = (0.0, 1.0)
    """The times with guidance, both included."""
    rescale: float = 1.0
    """How much denser the steps are near noise than near the object."""

    def times(self) -> Float64[np.ndarray, "T"]:
        """The times between the steps, from 1 (noise) to 0."""
        even = np.linspace(1, 0, self.steps + 1)
        return self.rescale * even / (1 + (self.rescale - 1) * even)

    def is_guided(self, time: float) -> bool:
        """Whether the step that starts at a time has guidance."""
        return self.guidance != 0 and self.interval[0] <= time <= self.interval[1]

    def velocities(self, images: int = 1, several: SeveralImages = "stochastic", after: int = 0) -> int:
        """How many velocities the steps need together.

        Args:
            images: Number of images.
            several: How they are used.
            after: Steps that are not counted.
        """
        of_step = images if several == "multidiffusion" else 1
        return sum(of_step + self.is_guided(time) for time in self.times()[after:-1])


Velocity = Callable[[Tensor, Tensor, Sequence[Condition]], Tensor]
"""A network: from B states, the time, which is 1000 at noise, and the condition of each state to velocities."""


@dataclass(frozen=True)
class Sampler(Generic[Condition]):
    """Follows a flow, one step at a time."""

    velocity: Velocity[Condition]
    conditions: Sequence[Condition]
    """Of every image."""
    negative: Condition
    """What guidance leads away from."""
    settings: SamplerSettings
    several: SeveralImages = "stochastic"

    def step(self, state: Float[Tensor, "1 ..."], index: int) -> Float[Tensor, "1 ..."]:
        """The state after a step.

        Args:
            state: Noise, or what the last step returned.
            index: Which step, from 0.
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
