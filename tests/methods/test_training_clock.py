# SPDX-License-Identifier: Apache-2.0
"""The remaining time knows that later steps see larger images."""

from __future__ import annotations

import pytest

from img3d_methods.training_clock import COST_PER_DOUBLING, TrainingClock


def downscale_at(step: int) -> int:
    return 4 if step < 100 else 2 if step < 200 else 1


def test_nothing_is_promised_before_the_first_step() -> None:
    assert TrainingClock(downscale_at, 300).remaining(0) == 0


def test_larger_images_are_expected_to_cost_more_before_they_are_measured() -> None:
    clock = TrainingClock(downscale_at, 300)
    clock.record(0, 1.0)
    expected = 99 + 100 * COST_PER_DOUBLING + 100 * COST_PER_DOUBLING**2
    assert clock.remaining(0) == pytest.approx(expected)


def test_what_was_measured_replaces_what_was_expected() -> None:
    clock = TrainingClock(downscale_at, 300)
    for step in range(150):
        clock.record(step, 1.0 if step < 100 else 3.0)
    assert clock.remaining(149) == pytest.approx(50 * 3.0 + 100 * 3.0 * COST_PER_DOUBLING)


def test_ends_at_zero() -> None:
    clock = TrainingClock(downscale_at, 300)
    clock.record(299, 2.0)
    assert clock.remaining(299) == 0
    assert clock.remaining(289) == pytest.approx(20.0)


def test_one_slow_step_hardly_changes_it() -> None:
    clock = TrainingClock(downscale_at, 300)
    for step in range(200, 250):
        clock.record(step, 1.0)
    clock.record(250, 10.0)
    assert clock.remaining(250) < 1.25 * 49


def test_the_first_step_at_a_size_stands_only_until_the_second() -> None:
    clock = TrainingClock(downscale_at, 300)
    clock.record(200, 50.0)
    for step in (201, 202, 203):
        clock.record(step, 1.0)
    assert clock.remaining(203) == pytest.approx(96.0)
