# SPDX-License-Identifier: Apache-2.0
"""Which noise level each step uses, and how weights change from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

NUM_TIMES = 1000
"""Number of noise levels of all these networks."""

Scheduled = float | Sequence[float]
"""A number; or `[start, first, last, end]`: linear from `first` to `last` between two steps (without `start`: from step
0); or more: `[start, first, second, step, third, step, …]`, linear from one to the next."""


def value_at(scheduled: Scheduled, step: int, epoch: int = 0) -> float:
    """The value of a number that depends on the step.

    Args:
        scheduled: The number, or its schedule. If its last step is a float rather than an int, it counts epochs.
        step: The current step.
        epoch: The current epoch.

    Raises:
        ValueError: The schedule is neither of the forms above.
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
    """Uniformly random noise levels, as in DreamFusion; the limits can depend on the step, as in Stable Zero123's
    recipe."""

    min_level: Scheduled = 0.02
    """As a fraction of all levels."""
    max_level: Scheduled = 0.98

    def limits(self, step: int) -> tuple[int, int]:
        """The lowest and the highest level of a step."""
        return int(NUM_TIMES * value_at(self.min_level, step)), int(NUM_TIMES * value_at(self.max_level, step))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        low, high = self.limits(step)
        return torch.randint(low, high + 1, (count,), generator=generator)


@dataclass(frozen=True)
class SquareRootTimes:
    """One level at each step, which falls with the square root of the run's progress (HiFA, arXiv 2305.18766)."""

    min_level: Scheduled = 0.02
    max_level: Scheduled = 0.98
    """If it is a schedule, its first value counts."""

    def level(self, step: int, progress: float) -> int:
        """The level of a step."""
        high = self.max_level if isinstance(self.max_level, (int, float)) else self.max_level[1]
        low = value_at(self.min_level, step)
        return int(NUM_TIMES * ((high - low) * (1 - progress**0.5) + low))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        return torch.full((count,), self.level(step, progress))


@dataclass(frozen=True)
class FallingTimes:
    """One level at each step, which falls evenly, as in DreamGaussian."""

    min_level: int = 20
    max_level: int = 980

    def level(self, progress: float) -> int:
        """The level at a part of the run in [0, 1]."""
        return min(self.max_level, max(self.min_level, round((1 - progress) * NUM_TIMES)))

    def draw(self, count: int, step: int, progress: float, generator: torch.Generator) -> Int[Tensor, "B"]:
        return torch.full((count,), self.level(progress))
