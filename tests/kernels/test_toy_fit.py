# SPDX-License-Identifier: Apache-2.0
"""gsplat's strategies run on our `rasterization`, and Gaussians fitted with it come to look like the picture."""

from __future__ import annotations

from typing import Any

import gsplat.strategy
import pytest
import torch
from kernel_scenes import FAST_BACKEND, look_at, one_torch_thread

from img3d_kernels import gsplat_compat, rasterization
from img3d_kernels.losses import l1_ssim
from img3d_kernels.mcmc import MCMCStrategy

WIDTH, HEIGHT, STEPS = 48, 40, 200
K = torch.tensor([[[60.0, 0.0, 24.0], [0.0, 60.0, 20.0], [0.0, 0.0, 1.0]]])
LEARNING_RATES = {"means": 1e-2, "quats": 1e-2, "scales": 2e-2, "opacities": 5e-2, "colors": 2e-2}


def picture() -> torch.Tensor:
    """A disc on a gradient."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    disc = (x**2 + y**2 < 0.3).float()
    return torch.stack([disc, 0.5 + 0.4 * x, 0.5 - 0.4 * y * (1 - disc)], dim=-1)


def fit(strategy: Any, absgrad: bool = False, backend: str = FAST_BACKEND) -> tuple[list[float], list[int]]:
    """Fit some Gaussians to the picture; the loss and the number of Gaussians at each step."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    n = 60
    values = {
        "means": torch.randn(n, 3, generator=generator) * torch.tensor([0.6, 0.5, 0.1]),
        "quats": torch.randn(n, 4, generator=generator),
        "scales": torch.full((n, 3), -2.5),
        "opacities": torch.full((n,), -1.0),
        "colors": torch.randn(n, 3, generator=generator),
    }
    params = torch.nn.ParameterDict({name: torch.nn.Parameter(value) for name, value in values.items()})
    optimizers = {name: torch.optim.Adam([params[name]], lr=lr) for name, lr in LEARNING_RATES.items()}
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state()
    target = picture()
    viewmats = look_at(torch.tensor([0.0, 0.0, -2.0]), torch.zeros(3))[None]
    losses, sizes = [], []
    for step in range(STEPS):
        render, _, meta = rasterization(
            params["means"],
            params["quats"],
            params["scales"].exp(),
            params["opacities"].sigmoid(),
            params["colors"].sigmoid(),
            viewmats,
            K,
            WIDTH,
            HEIGHT,
            absgrad=absgrad,
            backend=backend,
        )
        loss = l1_ssim(render[0], target, 0.2)
        strategy.step_pre_backward(params, optimizers, state, step, meta)
        loss.backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        if isinstance(strategy, MCMCStrategy):
            strategy.step_post_backward(params, optimizers, state, step, meta, lr=LEARNING_RATES["means"])
        else:
            strategy.step_post_backward(params, optimizers, state, step, meta, packed=False)
        losses.append(loss.item())
        sizes.append(len(params["means"]))
    assert all(param.isfinite().all() for param in params.values())
    return losses, sizes


@pytest.fixture(autouse=True)
def _one_torch_thread() -> Any:
    with one_torch_thread():
        yield


def assert_learns(losses: list[float]) -> None:
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


@pytest.mark.parametrize("absgrad", [False, True])
def test_default_strategy(absgrad: bool) -> None:
    strategy = gsplat.strategy.DefaultStrategy(
        refine_start_iter=20,
        refine_every=20,
        reset_every=1000,
        refine_scale2d_stop_iter=100,
        grow_grad2d=8e-4 if absgrad else 2e-4,
        absgrad=absgrad,
        verbose=False,
    )
    losses, sizes = fit(strategy, absgrad)
    assert_learns(losses)
    assert max(sizes) > 60  # some were split or duplicated


def test_mcmc_strategy() -> None:
    losses, sizes = fit(MCMCStrategy(cap_max=90, noise_lr=1.0, refine_start_iter=20, refine_every=10))
    assert_learns(losses)
    assert sizes[-1] == 90


def test_absgrad_grows_gaussians_that_plain_gradients_miss() -> None:
    """The reason to have it: gradients of opposite sign on two sides of a Gaussian cancel, their absolutes add up."""
    sizes = {}
    for absgrad in (False, True):
        strategy = gsplat.strategy.DefaultStrategy(
            refine_start_iter=20, refine_every=20, reset_every=1000, grow_grad2d=1e-3, absgrad=absgrad, verbose=False
        )
        sizes[absgrad] = fit(strategy, absgrad)[1][-1]
    assert sizes[True] > sizes[False]


def test_default_strategy_reads_radii_of_its_own_release_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.4's strategy indexes with `radii > 0` and needs `[C, N]`, 1.5's `[C, N, 2]`."""
    other = (1, 4) if gsplat_compat.gsplat_version() >= (1, 5) else (1, 5)
    monkeypatch.setattr(gsplat_compat, "gsplat_version", lambda: other)
    with pytest.raises((RuntimeError, IndexError)):
        fit(gsplat.strategy.DefaultStrategy(verbose=False))
