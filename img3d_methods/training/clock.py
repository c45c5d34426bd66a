# SPDX-License-Identifier: Apache-2.0
"""Estimates the remaining time of a run whose later steps do more work: larger photos, more Gaussians.

Nerfstudio multiplies the mean time of recent steps by the number of steps left. With a resolution schedule on a CPU,
that predicts an end several times too early. Here a plan gives the work of each step, and the clock measures how
fast it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

COST_OF_STEP, COST_PER_GAUSSIAN, COST_PER_PIXEL = 5.0, 0.42e-3, 0.10e-3
"""Milliseconds on two cores of 2021: the fixed cost of a step, and the cost per Gaussian and per pixel. Fitted to
the runs in benchmarks/RESULTS.md; only their ratios matter, since the speed of this machine is measured."""
MEMORY = 0.02
"""Minimum weight of the newest step in the running mean, which then covers about the last 50 steps."""
STEPS_TO_SEE_GROWTH = 100
"""Steps of densification after which their growth is extrapolated to the others."""


@dataclass(frozen=True)
class WorkPlan:
    """The work of each step of a run."""

    pixels: Float[np.ndarray, "steps"]
    """Number of pixels of the photo at each step."""
    max_gaussians: int = 0
    """The limit of the number of Gaussians; 0 for methods without Gaussians."""
    growth_start: int = 0
    """First step of the growth of their number."""
    growth_stop: int = 0
    growth_factor: float | None = None
    """Factor of growth per step. None if it depends on the scene: then the observed growth continues or, before any
    was observed, growth is linear up to the limit."""

    def gaussians(
        self, steps: Int[np.ndarray, "n"], step: int, count: int, growth: float | None
    ) -> Float[np.ndarray, "n"]:
        """The expected number of Gaussians.

        Args:
            steps: The steps to predict, from `step` on.
            step: The current step.
            count: The number of Gaussians at that step.
            growth: The mean number that each step has added; None if unknown.
        """
        grown = np.clip(steps, self.growth_start, self.growth_stop) - np.clip(step, self.growth_start, self.growth_stop)
        if self.growth_factor is not None:
            expected = count * self.growth_factor**grown
        else:
            if growth is None:
                start = max(step, self.growth_start)
                growth = (self.max_gaussians - count) / max(1, self.growth_stop - start)
            expected = count + growth * grown
        return np.clip(expected, 0, max(count, self.max_gaussians))


class TrainingClock:
    """Measures how fast the planned work is done.

    Args:
        plan: The work of the whole run.
    """

    def __init__(self, plan: WorkPlan) -> None:
        self.plan = plan
        self._pace = 0.0
        self._num_recorded = 0
        self._grew_from: tuple[int, int] | None = None
        self._gaussians = 0

    def record(self, step: int, seconds: float, gaussians: int = 0) -> None:
        """Notes that `step` took `seconds` of wall time, everything included, with `gaussians` Gaussians."""
        plan = self.plan
        pace = seconds / float(_cost(plan.pixels[step : step + 1], gaussians)[0])
        resized = step > 0 and plan.pixels[step] != plan.pixels[step - 1]
        if self._num_recorded <= 1:  # the first step is slow (memory, caches); the second replaces it
            self._pace = pace
        elif not resized:  # the first step at a new size is not typical either
            self._pace += max(MEMORY, 1 / self._num_recorded) * (pace - self._pace)
        self._num_recorded += 1
        if step <= plan.growth_start or self._grew_from is None:
            self._grew_from = step, gaussians
        self._gaussians = gaussians

    def remaining(self, step: int) -> float:
        """Seconds from the end of `step` to the end of the run; 0 before any step was recorded."""
        steps = np.arange(step + 1, len(self.plan.pixels))
        expected = self.plan.gaussians(steps, step, self._gaussians, self._growth(step))
        return float(self._pace * _cost(self.plan.pixels[steps], expected).sum())

    def _growth(self, step: int) -> float | None:
        if self._grew_from is None:
            return None
        began, count = self._grew_from
        grown = min(step, self.plan.growth_stop) - began
        return max(0.0, (self._gaussians - count) / grown) if grown >= STEPS_TO_SEE_GROWTH else None


def _cost(pixels: Float[np.ndarray, "n"], gaussians: Float[np.ndarray, "n"] | int) -> Float[np.ndarray, "n"]:
    """Relative time that steps take."""
    return COST_OF_STEP + COST_PER_GAUSSIAN * gaussians + COST_PER_PIXEL * pixels
