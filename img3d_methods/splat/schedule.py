# SPDX-License-Identifier: Apache-2.0
"""The schedule of a run (resolution, spherical harmonics, densification), in proportion to its length.

Splatfacto's numbers are for 30 000 steps. A run on a CPU is several times shorter, and `--max-num-iterations` alone
has to be enough to ask for a shorter or longer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from img3d_methods.training.clock import WorkPlan


class ScheduleOptions(Protocol):
    """The options that the schedule uses; those that are 0 follow the run's length."""

    @property
    def strategy(self) -> str: ...

    num_downscales: int
    full_resolution_at: float
    resolution_schedule: int
    sh_degree_interval: int
    warmup_length: int
    stop_split_at: int
    refine_every: int


@dataclass(frozen=True)
class TrainingSchedule:
    """Step numbers for a run of `max_steps`."""

    max_steps: int
    num_downscales: int
    """Resolution starts at 1/2^num_downscales."""
    resolution_every: int
    """Steps between doublings of the resolution."""
    sh_degree_every: int
    """Steps between increases of the degree of spherical harmonics."""
    refine_start: int
    refine_stop: int
    refine_every: int

    @classmethod
    def for_run(cls, config: ScheduleOptions, max_steps: int) -> TrainingSchedule:
        """The schedule of a run of `max_steps`: options of `config`, and fractions of the run for those that are 0."""
        full_resolution_step = config.full_resolution_at * max_steps
        refine_until = 0.83 if config.strategy == "mcmc" else 0.5  # 25 000 and 15 000 of 30 000, as their papers
        return cls(
            max_steps=max_steps,
            num_downscales=config.num_downscales,
            resolution_every=config.resolution_schedule
            or max(1, round(full_resolution_step / max(1, config.num_downscales))),
            sh_degree_every=config.sh_degree_interval or max(1, max_steps // 30),
            refine_start=config.warmup_length or min(500, max_steps // 30),
            refine_stop=config.stop_split_at or int(refine_until * max_steps),
            refine_every=config.refine_every,
        )

    def downscale_factor(self, step: int) -> int:
        """The factor by which images are downscaled at `step`: a power of two."""
        return 2 ** max(0, self.num_downscales - step // self.resolution_every)

    @property
    def doublings(self) -> list[int]:
        """Steps from which images have twice the size."""
        return [i * self.resolution_every for i in range(1, self.num_downscales + 1)]

    def work_plan(self, pixels: int, max_gaussians: int, growth: float | None) -> WorkPlan:
        """The work of each step, for a `TrainingClock`.

        Args:
            pixels: Number of pixels of a photo at full size.
            max_gaussians: The limit of the number of Gaussians.
            growth: Factor by which each refinement multiplies their number; None if it depends on the scene.
        """
        factors = np.array([self.downscale_factor(step) for step in range(self.max_steps)])
        factor = None if growth is None else growth ** (1 / self.refine_every)
        return WorkPlan(pixels / factors**2, max_gaussians, self.refine_start, self.refine_stop, factor)

    def sh_degree(self, step: int, maximum: int) -> int:
        """Degree of spherical harmonics in use at `step`."""
        return min(step // self.sh_degree_every, maximum)
