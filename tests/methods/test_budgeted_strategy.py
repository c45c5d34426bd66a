# SPDX-License-Identifier: Apache-2.0
"""Growth stops at the budget, and what grows is where the gradient is steepest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gsplat.strategy import DefaultStrategy

from img3d_methods.budgeted_strategy import BudgetedDefaultStrategy


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


@pytest.mark.parametrize("absgrad", [False, True])
@pytest.mark.parametrize("refine_scale2d_stop_iter", [0, 4000])
def test_statistics_are_upstreams(absgrad: bool, refine_scale2d_stop_iter: int) -> None:
    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"absgrad": absgrad, "refine_scale2d_stop_iter": refine_scale2d_stop_iter}
    strategies = BudgetedDefaultStrategy(**options), DefaultStrategy(**options)
    states = [strategy.initialize_state(scene_scale=1.0) for strategy in strategies]
    params, _ = gaussians(300)
    for _ in range(3):
        means2d = torch.zeros(1, 300, 2)
        means2d.grad = torch.randn(1, 300, 2, generator=generator)
        means2d.absgrad = torch.rand(1, 300, 2, generator=generator)  # pyright: ignore[reportAttributeAccessIssue]
        radii = torch.randint(-20, 60, (1, 300), generator=generator).clamp(min=0).int()
        info = {
            "means2d": means2d,
            "radii": radii,
            "gaussian_ids": None,
            "width": 70,
            "height": 50,
            "n_cameras": 1,
        }
        for strategy, state in zip(strategies, states, strict=True):
            strategy._update_state(params, state, info)
    for name in ("grad2d", "count") + (("radii",) if refine_scale2d_stop_iter else ()):
        torch.testing.assert_close(states[0][name], states[1][name])


def test_the_first_step_leaves_opacities_as_they_are() -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(reset_every=5, refine_stop_iter=100, absgrad=False)
    state = strategy.initialize_state(scene_scale=1.0)
    means2d = torch.zeros(1, 10, 2)
    means2d.grad = torch.zeros(1, 10, 2)
    info = {"means2d": means2d, "radii": torch.ones(1, 10, dtype=torch.int32), "gaussian_ids": None}
    info |= {"width": 8, "height": 8, "n_cameras": 1}
    before = params["opacities"].detach().clone()
    strategy.step_post_backward(params, optimizers, state, 0, info)
    torch.testing.assert_close(params["opacities"].detach(), before)
    strategy.step_post_backward(params, optimizers, state, 5, info)
    assert (params["opacities"] < before).all()


def test_a_run_too_short_to_densify_needs_no_statistics() -> None:
    params, optimizers = gaussians(10)
    strategy = BudgetedDefaultStrategy(refine_stop_iter=0, absgrad=True)
    state = strategy.initialize_state(scene_scale=1.0)
    info = {"means2d": torch.zeros(1, 10, 2), "radii": torch.ones(1, 10, dtype=torch.int32), "n_cameras": 1}
    strategy.step_post_backward(params, optimizers, state, 0, info)
    assert state["grad2d"] is None
