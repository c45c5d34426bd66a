# SPDX-License-Identifier: Apache-2.0
"""A run's schedule stretches with its length, and what the user sets is kept."""

from __future__ import annotations

import pytest

from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.schedule import TrainingSchedule


@pytest.mark.parametrize("max_steps", [1, 30, 500, 7_000, 30_000])
def test_the_run_ends_at_full_resolution_and_full_degree(max_steps: int) -> None:
    schedule = TrainingSchedule.for_run(Img3dSplatModelConfig(), max_steps)
    assert schedule.downscale_factor(0) == 4
    assert schedule.downscale_factor(10 * max_steps) == 1
    assert schedule.sh_degree(0, 3) == 0
    assert schedule.refine_stop <= max_steps
    if max_steps >= 30:
        assert schedule.downscale_factor(max_steps - 1) == 1
        assert schedule.sh_degree(max_steps - 1, 3) == 3


def test_full_resolution_is_reached_at_the_part_of_the_run_that_was_asked_for() -> None:
    schedule = TrainingSchedule.for_run(Img3dSplatModelConfig(full_resolution_at=0.4), 1000)
    assert [schedule.downscale_factor(step) for step in (0, 199, 200, 399, 400, 999)] == [4, 4, 2, 2, 1, 1]


def test_numbers_the_user_sets_are_steps() -> None:
    config = Img3dSplatModelConfig(resolution_schedule=30, sh_degree_interval=7, warmup_length=11, stop_split_at=123)
    schedule = TrainingSchedule.for_run(config, 1000)
    assert (schedule.downscale_factor(29), schedule.downscale_factor(30), schedule.downscale_factor(60)) == (4, 2, 1)
    assert (schedule.sh_degree(6, 3), schedule.sh_degree(7, 3), schedule.sh_degree(100, 3)) == (0, 1, 3)
    assert (schedule.refine_start, schedule.refine_stop) == (11, 123)


def test_no_downscaling_if_none_is_wanted() -> None:
    assert TrainingSchedule.for_run(Img3dSplatModelConfig(num_downscales=0), 100).downscale_factor(0) == 1
