# SPDX-License-Identifier: Apache-2.0
"""Schedules over the steps of a run: of noise levels, and of numbers such as weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

NUM_TIMES = 1000
"""Number of noise levels of every supported network."""

Scheduled = float | Sequence[float]
"""A constant; or `[start, first, last, end]`: linear from `first` at step `start` to `last` at step `end`, and constant
before and after (`start` may be left out: 0); or `[start, first, second, step, third, step, …]`: linear from each value
to the next, which is reached at the step that follows it in the list."""


def value_at(scheduled: Scheduled, step: int, epoch: int = 0) -> float:
    """The value of a number that depends on the step.

    Args:
        scheduled: The number, or its schedule. If its last step is a float rather than an int, it counts epochs.
        step: The current step.
        epoch: The current epoch.

    Raises:
        ValueError: The schedule has none of the forms above.
    """
    if isinstance(scheduled, (int, float)):
        return float(scheduled)
    numbers = [0, *scheduled] if len(scheduled) == 3 else list(scheduled)
    if len(numbers) < 4 or len(numbers) % 2:
        raise ValueError(f"a schedule is [start, first, last, end] or longer by pairs of value and step, not {numbers}")
    starts = [numbers[0], *numbers[3::2]]
    values = [numbers[1], *numbers[2::2]]
    now = epoch if isinstance(numbers[-1], float) else step
    piece = max((i for i, start in enumerate(starts[:-1]) if i == 0 or now >= start), default=0)
    share = (now - starts[piece]) / (starts[piece + 1] - starts[piece])
    return values[piece] + (values[piece + 1] - values[piece]) * min(1.0, max(0.0, share))


@runtime_checkable
class Times(Protocol):
    """Chooses noise levels: from 0, nearly none, to `NUM_TIMES` - 1, nearly only noise."""

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        """The noise levels of the pictures of a step.

        Args:
            count: The number of pictures.
            step: The step, from 0.
            progress: The part of the run that is over, in [0, 1].
            generator: Source of random numbers.
        """
        ...


@dataclass(frozen=True)
class RandomTimes:
    """Uniformly random noise levels, as in DreamFusion. The limits can depend on the step, as in threestudio's
    configuration for Stable Zero123."""

    min_level: Scheduled = 0.02
    """Lowest level as a fraction of `NUM_TIMES`."""
    max_level: Scheduled = 0.98
    """Highest level as a fraction of `NUM_TIMES`."""

    def limits(self, step: int) -> tuple[int, int]:
        """The lowest and the highest level of a step."""
        return int(NUM_TIMES * value_at(self.min_level, step)), int(NUM_TIMES * value_at(self.max_level, step))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        low, high = self.limits(step)
        return torch.randint(low, high + 1, (count,), generator=generator)


@dataclass(frozen=True)
class SquareRootTimes:
    """One level for all pictures of a step, which falls with the square root of the run's progress (HiFA, arXiv
    2305.18766)."""

    min_level: Scheduled = 0.02
    """Lowest level as a fraction of `NUM_TIMES`."""
    max_level: Scheduled = 0.98
    """Highest level as a fraction of `NUM_TIMES`; of a schedule, its value at step 0."""

    def level(self, step: int, progress: float) -> int:
        """The level of a step."""
        low, high = value_at(self.min_level, step), value_at(self.max_level, 0)
        return int(NUM_TIMES * ((high - low) * (1 - progress**0.5) + low))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        return torch.full((count,), self.level(step, progress))


@dataclass(frozen=True)
class FallingTimes:
    """One level for all pictures of a step, which falls linearly with the run's progress, as in DreamGaussian."""

    min_level: int = 20
    """Lowest level, of `NUM_TIMES`."""
    max_level: int = 980
    """Highest level, of `NUM_TIMES`."""

    def level(self, progress: float) -> int:
        """The level at a progress of the run in [0, 1]."""
        return min(self.max_level, max(self.min_level, round((1 - progress) * NUM_TIMES)))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        return torch.full((count,), self.level(progress))
