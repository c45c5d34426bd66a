# SPDX-License-Identifier: Apache-2.0
"""Our MCMC strategy takes gsplat's steps, with gsplat's numbers, on a machine without CUDA."""

from __future__ import annotations

import dataclasses

import gsplat.strategy
import pytest
import torch
from gsplat.cuda._torch_impl import _quat_scale_to_covar_preci

from img3d_kernels.mcmc import MCMCStrategy, add_copies, add_position_noise, apply_covariance, relocate
from img3d_kernels.relocation import binomial_table, compute_relocation

EPS = torch.finfo(torch.float32).eps
Params = dict[str, torch.nn.Parameter]
Optimizers = dict[str, torch.optim.Optimizer]


@pytest.fixture(params=[(), (1,)], ids=["opacities [N]", "opacities [N, 1]"])
def trained(request: pytest.FixtureRequest) -> tuple[Params, Optimizers]:
    """Parameters under whichever shape of opacities, and optimizers that have taken a step, so have a state."""
    generator = torch.Generator().manual_seed(0)
    n = 40
    values = {
        "means": torch.randn(n, 3, generator=generator),
        "quats": torch.randn(n, 4, generator=generator),
        "scales": torch.randn(n, 3, generator=generator) - 2.0,
        "opacities": torch.randn(n, *request.param, generator=generator),
        "features_rest": torch.randn(n, 15, 3, generator=generator),
    }
    values["opacities"][:10] = -8.0  # dead: sigmoid(-8) = 0.0003
    params = {name: torch.nn.Parameter(value) for name, value in values.items()}
    optimizers = {name: torch.optim.Adam([param], lr=1e-4) for name, param in params.items()}
    for name, optimizer in optimizers.items():
        params[name].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return params, optimizers


def copy_of(params: Params) -> dict[str, torch.Tensor]:
    return {name: param.detach().clone() for name, param in params.items()}


def first_moment(optimizers: Optimizers, params: Params, name: str) -> torch.Tensor:
    return optimizers[name].state[params[name]]["exp_avg"]


def test_options_are_gsplats() -> None:
    ours = {f.name: f.default for f in dataclasses.fields(MCMCStrategy)}
    assert ours == {f.name: f.default for f in dataclasses.fields(gsplat.strategy.MCMCStrategy)}
    assert issubclass(MCMCStrategy, gsplat.strategy.MCMCStrategy)


def test_dead_gaussians_become_copies_of_live_ones(trained: tuple[Params, Optimizers]) -> None:
    params, optimizers = trained
    before = copy_of(params)
    dead = torch.sigmoid(params["opacities"].flatten()) <= 0.005
    assert dead.sum() == 10
    torch.manual_seed(1)
    relocate(params, optimizers, dead, binomial_table(), min_opacity=0.005)

    sources = [int((before["means"] == mean).all(dim=-1).nonzero()) for mean in params["means"][dead]]
    assert not dead[sources].any()
    assert len(set(sources)) < 10  # with this seed some live one is drawn twice, the case the binomials are for
    for source in set(sources):
        copies = sources.count(source) + 1
        opacity, scales = compute_relocation(
            torch.sigmoid(before["opacities"][source]).reshape(1),
            before["scales"][source : source + 1].exp(),
            torch.tensor([copies]),
            binomial_table(),
        )
        where = [source, *(dead.nonzero()[i, 0].item() for i, s in enumerate(sources) if s == source)]
        for i in where:
            torch.testing.assert_close(torch.sigmoid(params["opacities"][i]).reshape(1), opacity)
            torch.testing.assert_close(params["scales"][i : i + 1].exp(), scales)
            assert torch.equal(params["quats"][i], before["quats"][source])
            assert torch.equal(params["features_rest"][i], before["features_rest"][source])
        assert not first_moment(optimizers, params, "means")[source].any()
    untouched = [i for i in range(40) if not dead[i] and i not in sources]
    for name, param in params.items():
        assert param.shape == before[name].shape
        assert torch.equal(param[untouched], before[name][untouched])
    assert first_moment(optimizers, params, "means")[untouched].all()


def test_new_gaussians_are_copies_with_a_fresh_optimizer_state(trained: tuple[Params, Optimizers]) -> None:
    params, optimizers = trained
    before = copy_of(params)
    torch.manual_seed(2)
    add_copies(params, optimizers, 6, binomial_table(), min_opacity=0.005)
    for name, param in params.items():
        assert param.shape == (46, *before[name].shape[1:])
        assert optimizers[name].param_groups[0]["params"] == [param]
        moment = first_moment(optimizers, params, name)
        assert moment.shape == param.shape and not moment[40:].any()
    assert torch.equal(params["means"][:40], before["means"])
    for mean, opacity in zip(params["means"][40:], params["opacities"][40:], strict=True):
        source = int((before["means"] == mean).all(dim=-1).nonzero())
        assert opacity < before["opacities"][source]  # shared with the source
        assert torch.equal(opacity, params["opacities"][source])
    for name, optimizer in optimizers.items():  # still in working order
        params[name].square().sum().backward()
        optimizer.step()


def test_noise_is_gsplats_formula(trained: tuple[Params, Optimizers]) -> None:
    params, _ = trained
    before = copy_of(params)
    torch.manual_seed(3)
    add_position_noise(params, scaler=7.0)
    torch.manual_seed(3)
    covars, _ = _quat_scale_to_covar_preci(before["quats"], before["scales"].exp(), compute_preci=False)
    transparent = 1 / (1 + torch.exp(-100 * ((1 - torch.sigmoid(before["opacities"].flatten())) - 0.995)))
    noise = torch.randn_like(before["means"]) * transparent[:, None] * 7.0
    expected = before["means"] + torch.einsum("bij,bj->bi", covars, noise)
    assert (expected[:10] != before["means"][:10]).any()
    # The sigmoid's argument reaches 100, whose rounding of 4e-6 the noise takes over.
    torch.testing.assert_close(params["means"].detach(), expected, rtol=1e-4, atol=1e-5)


def test_covariance_is_applied_without_forming_it() -> None:
    generator = torch.Generator().manual_seed(0)
    quats, scales, vectors = (torch.randn(50, k, generator=generator).double() for k in (4, 3, 3))
    covars, _ = _quat_scale_to_covar_preci(quats, scales)
    expected = torch.einsum("bij,bj->bi", covars, vectors)
    torch.testing.assert_close(apply_covariance(quats, scales, vectors), expected, rtol=1e-10, atol=1e-10)


def test_step_grows_to_the_cap_and_no_further(trained: tuple[Params, Optimizers]) -> None:
    params, optimizers = trained
    strategy = MCMCStrategy(cap_max=43, refine_start_iter=0, refine_every=1)
    strategy.check_sanity(params, optimizers)
    state = strategy.initialize_state()
    sizes = []
    for step in range(5):
        strategy.step_post_backward(params, optimizers, state, step, {}, lr=1e-4)
        sizes.append(len(params["means"]))
    assert sizes == [40, 42, 43, 43, 43]  # by 5 % a time; nothing at step 0
    assert (torch.sigmoid(params["opacities"]) >= 0.005 - EPS).all()  # none is dead any more
    assert all(param.isfinite().all() for param in params.values())


def test_outside_refinement_only_positions_move(trained: tuple[Params, Optimizers]) -> None:
    params, optimizers = trained
    before = copy_of(params)
    strategy = MCMCStrategy(refine_start_iter=10, refine_every=10, refine_stop_iter=50)
    for step in (5, 10, 15, 50, 100):
        strategy.step_post_backward(params, optimizers, strategy.initialize_state(), step, {}, lr=1e-3)
    assert not torch.equal(params["means"], before.pop("means"))
    assert all(torch.equal(params[name], value) for name, value in before.items())


def test_with_all_dead_there_is_nothing_to_copy(trained: tuple[Params, Optimizers]) -> None:
    params, optimizers = trained
    with torch.no_grad():
        params["opacities"].fill_(-9.0)
    strategy = MCMCStrategy(cap_max=40, refine_start_iter=0, refine_every=1)
    strategy.step_post_backward(params, optimizers, strategy.initialize_state(), 1, {}, lr=0.0)
    assert len(params["means"]) == 40


def test_no_call_to_cuda(trained: tuple[Params, Optimizers], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("torch.cuda was called")

    for name in ("empty_cache", "synchronize", "current_device", "current_stream", "init"):
        monkeypatch.setattr(torch.cuda, name, forbidden)
    params, optimizers = trained
    strategy = MCMCStrategy(refine_start_iter=0, refine_every=1)
    strategy.step_post_backward(params, optimizers, strategy.initialize_state(), 1, {}, lr=1e-3)
    assert len(params["means"]) == 42
