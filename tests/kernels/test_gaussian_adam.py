# SPDX-License-Identifier: Apache-2.0
"""GaussianAdam is torch's Adam, except that a Gaussian without gradient stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from img3d_kernels.adam import GaussianAdam

pytest.importorskip("img3d_kernels._C", reason="the compiled kernels are not built")


def optimised(
    optimizer: type[torch.optim.Adam], start: Tensor, gradients: list[Tensor], **options: Any
) -> tuple[Tensor, dict]:
    p = torch.nn.Parameter(start.clone())
    adam = optimizer([p], lr=0.01, eps=1e-15, **options)
    for gradient in gradients:
        p.grad = gradient.clone()
        adam.step()
    return p.detach(), adam.state[p]


@pytest.mark.parametrize("shape", [(1000, 3), (70_000, 1), (513, 15, 3), (1,), (7,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_torch_where_every_row_has_a_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator, dtype=dtype)
    gradients = [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(5)]
    ours, our_state = optimised(GaussianAdam, start, gradients)
    theirs, their_state = optimised(torch.optim.Adam, start, gradients)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert our_state.keys() == their_state.keys()
    for name in our_state:
        torch.testing.assert_close(our_state[name], their_state[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"amsgrad": True},
        {"maximize": True},
        {"weight_decay": 0.1, "amsgrad": True, "maximize": True},
        {"foreach": True},
        {"foreach": False},
        {"fused": True},
    ],
    ids=str,
)
def test_torchs_options_do_what_they_do_there(options: dict[str, bool | float]) -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(200, 3, generator=generator)
    gradients = [torch.randn(200, 3, generator=generator) * (0.1 if i % 2 else 10) for i in range(5)]
    ours, our_state = optimised(GaussianAdam, start, gradients, **options)
    theirs, their_state = optimised(torch.optim.Adam, start, gradients, **options)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert our_state.keys() == their_state.keys()


def test_an_option_that_torch_has_for_gpus_only_is_refused_as_there() -> None:
    with pytest.raises(Exception, match="capturable"):
        optimised(torch.optim.Adam, torch.ones(2, 2), [torch.ones(2, 2)], capturable=True)
    with pytest.raises(Exception, match="capturable"):
        optimised(GaussianAdam, torch.ones(2, 2), [torch.ones(2, 2)], capturable=True)


def test_a_row_without_gradient_keeps_its_place_and_moments() -> None:
    start = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    first, second = torch.ones(10, 3), torch.ones(10, 3)
    second[4] = 0.0
    after_one, state_one = optimised(GaussianAdam, start, [first])
    after_two, state_two = optimised(GaussianAdam, start, [first, second])
    assert torch.equal(after_two[4], after_one[4])
    assert torch.equal(state_two["exp_avg"][4], state_one["exp_avg"][4])
    assert not torch.equal(after_two[5], after_one[5])


def test_a_closure_is_evaluated_and_parameters_without_gradient_are_left_alone() -> None:
    moving, still = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    adam = GaussianAdam([moving, still], lr=0.1)

    def closure() -> Tensor:
        loss = moving.square().sum()
        loss.backward()
        return loss

    assert adam.step(closure).item() == 4.0
    assert (moving < 1).all() and (still == 1).all()
