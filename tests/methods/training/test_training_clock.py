# SPDX-License-Identifier: Apache-2.0
"""The remaining time knows that later steps have larger images and more Gaussians."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.schedule import TrainingSchedule
from img3d_methods.training.clock import TrainingClock, WorkPlan

SIZES = np.repeat([10_000.0, 40_000.0, 160_000.0], 100)


def constant_plan(steps: int = 300) -> WorkPlan:
    return WorkPlan(np.full(steps, 40_000.0))


def test_nothing_is_promised_before_the_first_step() -> None:
    assert TrainingClock(constant_plan()).remaining(0) == 0


def test_larger_images_are_expected_to_cost_more_before_they_are_measured() -> None:
    clock = TrainingClock(WorkPlan(SIZES))
    for step in range(50):
        clock.record(step, 1.0)
    assert 50 + 1.3 * 100 + 3 * 100 < clock.remaining(49) < 50 + 4 * 100 + 16 * 100


def test_gaussians_still_to_come_are_expected_to_cost_more() -> None:
    few, many = (
        TrainingClock(WorkPlan(np.full(1000, 1e4), limit, growth_start=0, growth_stop=500))
        for limit in (10_000, 100_000)
    )
    for clock in (few, many):
        clock.record(0, 1.0, 10_000)
        clock.record(1, 1.0, 10_000)
    assert few.remaining(1) == pytest.approx(998)
    assert many.remaining(1) > 3 * few.remaining(1)


def test_growth_that_was_seen_replaces_what_was_assumed() -> None:
    plan = WorkPlan(np.full(2000, 1e4), 100_000, growth_start=0, growth_stop=1000)
    count = plan.gaussians(np.array([400, 1000, 1999]), step=200, count=6_000, growth=10.0)
    assert count.tolist() == [8_000, 14_000, 14_000]
    assumed = plan.gaussians(np.array([600, 1999]), step=200, count=20_000, growth=None)
    assert assumed.tolist() == [60_000, 100_000]


def test_mcmc_multiplies_its_gaussians_up_to_the_limit() -> None:
    schedule = TrainingSchedule.for_run(Img3dSplatModelConfig(strategy="mcmc", warmup_length=100), 2000)
    plan = schedule.work_plan(10_000, max_gaussians=5_000, growth=1.05)
    expected = plan.gaussians(np.array([100, 200, 1100, 1999]), step=0, count=2_000, growth=None)
    assert expected.round().tolist() == [2_000, 2_100, round(2_000 * 1.05**10), round(2_000 * 1.05**15.6)]
    assert plan.gaussians(np.array([1999]), step=0, count=4_900, growth=None).tolist() == [5_000]


def test_ends_at_zero() -> None:
    clock = TrainingClock(constant_plan())
    clock.record(299, 2.0)
    assert clock.remaining(299) == 0
    assert clock.remaining(289) == pytest.approx(20.0)


def test_one_slow_step_hardly_changes_it() -> None:
    clock = TrainingClock(constant_plan())
    for step in range(200, 250):
        clock.record(step, 1.0)
    clock.record(250, 10.0)
    assert clock.remaining(250) < 1.25 * 49


def test_the_first_step_and_the_first_at_a_size_do_not_stand_for_the_others() -> None:
    clock = TrainingClock(constant_plan())
    clock.record(200, 50.0)
    for step in (201, 202, 203):
        clock.record(step, 1.0)
    assert clock.remaining(203) == pytest.approx(96.0)
    resized = TrainingClock(WorkPlan(SIZES))
    for step in range(190, 200):
        resized.record(step, 1.0)
    before = resized.remaining(200)
    resized.record(200, 50.0)
    assert resized.remaining(200) == before


class RecordedRun(NamedTuple):
    """A run of benchmarks/RESULTS.md: how many seconds it had trained, and its Gaussians, after some of its steps."""

    max_steps: int
    max_gaussians: int
    pixels: int
    first_gaussians: int
    rows: list[tuple[int, float, int]]


RECORDED = {
    "fox fast": RecordedRun(
        *(2_000, 50_000, 270 * 480, 8_089),
        [(250, 3, 12_031), (500, 7, 20_099), (750, 13, 42_583), (1000, 21, 49_004), (1250, 34, 49_004)]
        + [(1500, 46, 49_004), (1750, 58, 49_004), (2000, 71, 49_004)],
    ),
    "fox balanced": RecordedRun(
        *(5_000, 100_000, 270 * 480, 8_089),
        [(625, 9, 30_686), (1250, 29, 70_333), (1875, 65, 99_983), (2500, 105, 99_984), (3125, 156, 99_984)]
        + [(3750, 206, 99_984), (4375, 259, 99_984), (5000, 315, 99_984)],
    ),
    "fox at 540x960, best": RecordedRun(
        *(10_000, 200_000, 540 * 960, 8_089),
        [(500, 8, 13_312), (1000, 22, 53_099), (1500, 51, 108_577), (2000, 91, 161_505), (2500, 137, 194_582)]
        + [(3000, 202, 199_979), (3500, 263, 170_086), (4500, 387, 177_913), (5000, 446, 180_365)]
        + [(6000, 629, 180_365), (8000, 1023, 180_365), (10_000, 1421, 180_365)],
    ),
    "chair fast, which stays far below its limit": RecordedRun(
        *(2_000, 50_000, 400 * 400, 3_000),
        [(250, 3, 3_489), (500, 5, 5_224), (750, 9, 11_896), (1000, 13, 15_291), (1250, 18, 15_291)]
        + [(1500, 24, 15_291), (1750, 30, 15_291), (2000, 36, 15_291)],
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_after_a_tenth_of_a_recorded_run_its_length_is_known_within_half(name: str) -> None:
    run = RECORDED[name]
    steps = [0, *(row[0] for row in run.rows)]
    seconds = PchipInterpolator(steps, [0, *(row[1] for row in run.rows)])(np.arange(run.max_steps + 1))
    gaussians = PchipInterpolator(steps, [run.first_gaussians, *(row[2] for row in run.rows)])
    schedule = TrainingSchedule.for_run(Img3dSplatModelConfig(), run.max_steps)
    clock = TrainingClock(schedule.work_plan(run.pixels, run.max_gaussians, growth=None))
    predicted = []
    for step in range(run.max_steps):
        refined = step - step % schedule.refine_every
        clock.record(step, float(seconds[step + 1] - seconds[step]), int(gaussians(refined)))
        if step >= run.max_steps // 10 and step % 50 == 0:
            predicted.append((float(seconds[step + 1]) + clock.remaining(step)) / run.rows[-1][1])
    assert 1 / 1.5 < min(predicted) and max(predicted) < 1.5
