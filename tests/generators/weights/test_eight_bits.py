# SPDX-License-Identifier: Apache-2.0
"""Weights in 8 bits differ from the exact ones by half a step at most."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from img3d_base.errors import InputError
from img3d_generators.weights.eight_bits import LARGEST, STEP, from_eight_bits, in_eight_bits

SOURCE = Path("weights.safetensors")


@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=4), scale=st.floats(1e-6, 1e3), seed=st.integers(0, 9))
def test_matrices_come_back_to_half_a_step(shape: list[int], scale: float, seed: int) -> None:
    exact = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    packed = in_eight_bits({"kernel": exact})
    assert packed["kernel"].dtype == torch.int8 and packed["kernel"].shape == exact.shape
    again = from_eight_bits(packed, SOURCE)
    assert again.keys() == {"kernel"}
    largest = exact.abs().flatten(1).amax(dim=1)
    assert ((again["kernel"] - exact).abs().flatten(1).amax(dim=1) <= 0.501 * largest / LARGEST).all()


def test_rows_of_zeros_and_vectors_are_kept() -> None:
    weights = {"kernel": torch.zeros(2, 3), "bias": torch.tensor([0.25, -3.0])}
    again = from_eight_bits(in_eight_bits(weights), SOURCE)
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], value) for name, value in weights.items())


@pytest.mark.parametrize("steps", [None, torch.ones(3)])
def test_a_matrix_without_fitting_steps_is_refused(steps: torch.Tensor | None) -> None:
    packed = {"kernel": torch.ones(2, 2, dtype=torch.int8)}
    if steps is not None:
        packed["kernel" + STEP] = steps
    with pytest.raises(InputError, match="kernel lacks the steps"):
        from_eight_bits(packed, SOURCE)
