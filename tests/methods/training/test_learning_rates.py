# SPDX-License-Identifier: Apache-2.0
"""Learning rates that suit the run's length."""

from __future__ import annotations

import pytest
import torch

from img3d_methods.splat.optimizers import splat_optimizers
from img3d_methods.training.gaussian_adam import MAX_LR_FACTOR, GaussianAdamConfig


@pytest.mark.parametrize(
    ("max_steps", "factor"), [(1, MAX_LR_FACTOR), (1000, MAX_LR_FACTOR), (2000, 2.0), (4000, 1.0), (30_000, 1.0)]
)
def test_shorter_runs_learn_faster_up_to_a_limit(max_steps: int, factor: float) -> None:
    config = GaussianAdamConfig(lr=0.01, lr_for_steps=4000)
    assert config.for_run(max_steps).lr == pytest.approx(0.01 * factor)
    assert config.lr == 0.01


def test_others_always_learn_as_fast() -> None:
    assert GaussianAdamConfig(lr=0.01).for_run(10).lr == 0.01


def test_the_optimizer_has_the_rate() -> None:
    optimizer = GaussianAdamConfig(lr=0.01, lr_for_steps=4000).for_run(2000).setup([torch.zeros(3, requires_grad=True)])
    (group,) = optimizer.param_groups
    assert group["lr"] == 0.02 and group["eps"] == 1e-15


def test_long_runs_have_splatfactos_rates_of_colours_and_rotations() -> None:
    groups, expected = splat_optimizers(), {"features_dc": 2.5e-3, "features_rest": 2.5e-3 / 20, "quats": 1e-3}
    assert {name: groups[name]["optimizer"].for_run(30_000).lr for name in expected} == expected
