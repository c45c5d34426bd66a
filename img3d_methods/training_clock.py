# SPDX-License-Identifier: Apache-2.0
"""How long the rest of a run takes, when early steps see smaller images than late ones.

Nerfstudio multiplies the last steps' mean time by the steps left; with a resolution schedule on a CPU that promises an
end several times too early.
"""

from __future__ import annotations

from collections.abc import Callable

COST_PER_DOUBLING = 2.5
"""Assumed cost of a step relative to one at half the resolution, while the larger one was not yet measured: pixels grow
by 4, the work per Gaussian does not grow."""
MEMORY = 0.02
"""Least weight of the newest step in the running mean, which then covers about the last 50 steps."""


class TrainingClock:
    """Running mean of the time a step takes, per resolution.

    Args:
        downscale_at: The factor by which images are reduced at a step (1, 2, 4, …).
        max_steps: Number of steps in the whole run.
    """

    def __init__(self, downscale_at: Callable[[int], int], max_steps: int) -> None:
        self.downscale_at = downscale_at
        self.max_steps = max_steps
        self.seconds_per_step: dict[int, float] = {}
        self._num_recorded: dict[int, int] = {}
        self._steps_by_downscale: dict[int, list[int]] = {}
        for step in range(max_steps):
            self._steps_by_downscale.setdefault(downscale_at(step), []).append(step)

    def record(self, step: int, seconds: float) -> None:
        """Note that `step` took `seconds` of wall time, everything included."""
        downscale = self.downscale_at(step)
        count = self._num_recorded.get(downscale, 0)
        if count <= 1:  # the first step at a size is slow (memory, caches) and stands only until the second
            self.seconds_per_step[downscale] = seconds
        else:
            mean = self.seconds_per_step[downscale]
            self.seconds_per_step[downscale] = mean + max(MEMORY, 1 / count) * (seconds - mean)
        self._num_recorded[downscale] = count + 1

    def remaining(self, step: int) -> float:
        """Seconds from the end of `step` to the end of the run; 0 before any step was recorded."""
        if not self.seconds_per_step:
            return 0.0
        total = 0.0
        for downscale, steps in self._steps_by_downscale.items():
            left = len(steps) if steps[0] > step else max(0, steps[-1] - step)
            if left:
                total += left * self._expected_seconds(downscale)
        return total

    def _expected_seconds(self, downscale: int) -> float:
        if downscale in self.seconds_per_step:
            return self.seconds_per_step[downscale]
        known = min(self.seconds_per_step)  # the largest resolution measured is the best guide to a larger one
        factor = 1.0
        while known > downscale:
            known //= 2
            factor *= COST_PER_DOUBLING
        return self.seconds_per_step[min(self.seconds_per_step)] * factor
