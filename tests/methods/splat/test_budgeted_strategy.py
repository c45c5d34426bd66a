# SPDX-License-Identifier: Apache-2.0
"""Growth stops at the budget, and what grows is where the gradient is steepest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from img3d_methods.splat.budgeted_strategy import BudgetedDefaultStrategy


def gaussians(num: int) -> tuple[Any, dict[str, torch.optim.Optimizer]]:
    params = torch.nn.ParameterDict(
        {
            "means": torch.arange(3.0 * num).reshape(num, 3),
            "scales": torch.full((num, 3), -6.0),
            "quats": torch.tensor([[1.0, 0, 0, 0]]).repeat(num, 1),
            "opacities": torch.zeros(num, 1),
        }
    )
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for name, param in params.items():
        optimizers[name] = torch.optim.Adam([param], lr=0.1)
        param.grad = torch.zeros_like(param)
        optimizers[name].step()
    return params, optimizers


@pytest.mark.parametrize(("cap_max", "expected"), [(100, 20), (14, 14), (10, 10), (5, 10)])
def test_the_number_stays_within_the_budget(cap_max: int, expected: int) -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(cap_max=cap_max, grow_grad2d=0.5, verbose=False)
    state = {"grad2d": torch.arange(1.0, 11.0), "count": torch.ones(10), "scene_scale": 1.0}
    strategy._grow_gs(params, optimizers, state, step=600)
    assert len(params["means"]) == expected
    assert len(optimizers["means"].param_groups[0]["params"][0]) == expected


def test_the_steepest_grow_first() -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(cap_max=12, grow_grad2d=0.5)
    state = {"grad2d": torch.tensor([1.0, 9, 1, 1, 8, 1, 1, 1, 1, 0]), "count": torch.ones(10), "scene_scale": 1.0}
    before = params["means"].detach().clone()
    strategy._grow_gs(params, optimizers, state, step=600)
    torch.testing.assert_close(params["means"].detach()[10:], before[[1, 4]])


def test_splitting_by_size_on_screen_counts_too() -> None:
    params, optimizers = gaussians(10)
    params["scales"].data += 4.0
    strategy = BudgetedDefaultStrategy(cap_max=11, grow_grad2d=0.5, refine_scale2d_stop_iter=4000)
    state = {
        "grad2d": torch.zeros(10),
        "count": torch.ones(10),
        "radii": torch.ones(10),
        "scene_scale": 1.0,
    }
    strategy._grow_gs(params, optimizers, state, step=600)
    assert len(params["means"]) <= 11


@pytest.mark.parametrize("refine_scale2d_stop_iter", [0, 4000])
def test_statistics_are_left_to_the_backward_pass(refine_scale2d_stop_iter: int) -> None:
    params, _ = gaussians(10)
    strategy = BudgetedDefaultStrategy(refine_stop_iter=100, refine_scale2d_stop_iter=refine_scale2d_stop_iter)
    state = strategy.initialize_state(scene_scale=1.0)
    stats = strategy.grad_stats(params["means"], state, step=0)
    assert stats is not None
    stats.grad2d += 1.0
    stats.count += 2.0
    strategy._update_state(params, state, info={})
    again = strategy.grad_stats(params["means"], state, step=99)
    assert again is not None
    torch.testing.assert_close(again.grad2d / again.count, torch.full((10,), 0.5))
    assert (again.radii is not None) == (refine_scale2d_stop_iter > 0)
    assert strategy.grad_stats(params["means"], state, step=100) is None, "densification is over"


def test_the_first_step_leaves_opacities_as_they_are() -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(reset_every=5, refine_stop_iter=100, absgrad=False)
    state = strategy.initialize_state(scene_scale=1.0)
    before = params["opacities"].detach().clone()
    strategy.grad_stats(params["means"], state, step=0)
    strategy.step_post_backward(params, optimizers, state, 0, info={})
    torch.testing.assert_close(params["opacities"].detach(), before)
    strategy.step_post_backward(params, optimizers, state, 5, info={})
    assert (params["opacities"] < before).all()


def test_a_run_too_short_to_densify_needs_no_statistics() -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(refine_stop_iter=0, absgrad=True)
    state = strategy.initialize_state(scene_scale=1.0)
    assert strategy.grad_stats(params["means"], state, step=0) is None
    strategy.step_post_backward(params, optimizers, state, 0, info={})
    assert state["grad2d"] is None
