# SPDX-License-Identifier: Apache-2.0
"""Learning rates end where they should, and are Python floats, so that checkpoints load with torch's safe loader."""

from __future__ import annotations

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from img3d_methods.training.schedulers import ExponentialDecayConfig, decay_factor


def test_decays_from_the_optimizers_rate_to_lr_final() -> None:
    assert decay_factor(0, 100, 0.01) == 1.0
    assert decay_factor(50, 100, 0.01) == pytest.approx(0.1)
    assert decay_factor(100, 100, 0.01) == pytest.approx(0.01)
    assert decay_factor(1000, 100, 0.01) == pytest.approx(0.01)


@given(st.integers(1, 10_000), st.floats(1e-4, 1.0), st.floats(0.0, 0.5), st.data())
def test_stays_between_zero_and_one_and_never_rises_after_the_warmup(
    max_steps: int, final: float, warmup: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, 2 * max_steps))
    now, later = decay_factor(step, max_steps, final, warmup), decay_factor(step + 1, max_steps, final, warmup)
    assert 0 <= now <= 1
    if step >= warmup * max_steps:
        assert later <= now


def test_warmup_starts_at_zero() -> None:
    assert decay_factor(0, 100, 0.1, warmup_fraction=0.1) == 0.0
    assert decay_factor(10, 100, 0.1, warmup_fraction=0.1) == 1.0


def test_states_hold_python_floats_and_load_safely() -> None:
    param = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([param], lr=1e-3)
    config = ExponentialDecayConfig(lr_final=1e-5, max_steps=10)
    scheduler = config.setup().get_scheduler(optimizer, lr_init=1e-3)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    assert type(optimizer.param_groups[0]["lr"]) is float
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.01**0.4)

    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["scheduler"]["last_epoch"] == 4


def test_an_unset_length_is_refused() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    with pytest.raises(ValueError, match="max_steps"):
        ExponentialDecayConfig().setup().get_scheduler(optimizer, lr_init=1e-3)
