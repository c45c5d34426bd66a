# SPDX-License-Identifier: Apache-2.0
"""Learning rates that suit the number of steps per photo."""

from __future__ import annotations

import pytest
import torch

from img3d_methods.splat.optimizers import splat_optimizers
from img3d_methods.training.gaussian_adam import MAX_LR_FACTOR, GaussianAdamConfig


@pytest.mark.parametrize(
    ("passes", "factor"), [(0.5, MAX_LR_FACTOR), (20, MAX_LR_FACTOR), (45, 2.0), (90, 1.0), (500, 1.0)]
)
def test_runs_with_few_steps_per_photo_learn_faster_up_to_a_limit(passes: float, factor: float) -> None:
    config = GaussianAdamConfig(lr=0.01, lr_for_passes=90)
    assert config.for_run(passes).lr == pytest.approx(0.01 * factor)
    assert config.lr == 0.01


def test_others_always_learn_as_fast() -> None:
    assert GaussianAdamConfig(lr=0.01).for_run(10).lr == 0.01


def test_the_optimizer_has_the_rate() -> None:
    optimizer = GaussianAdamConfig(lr=0.01, lr_for_passes=90).for_run(45).setup([torch.zeros(3, requires_grad=True)])
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.02 and group["eps"] == 1e-15


def test_with_many_steps_per_photo_colours_and_rotations_have_splatfactos_rates() -> None:
    groups, expected = splat_optimizers(), {"features_dc": 2.5e-3, "features_rest": 2.5e-3 / 20, "quats": 1e-3}
    assert {name: groups[name]["optimizer"].for_run(300).lr for name in expected} == expected
