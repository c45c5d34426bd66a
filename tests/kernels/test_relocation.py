# SPDX-License-Identifier: Apache-2.0
"""Relocation: n copies look like the one they replace, by the numbers of equation (9) of arXiv 2404.09591."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from img3d_kernels.relocation import N_MAX, binomial_table, compute_relocation


def by_the_paper(opacity: float, n: int) -> tuple[float, float]:
    """New opacity, and the factor of the scales: equation (9) as printed, a double loop."""
    new = 1 - (1 - opacity) ** (1 / n)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1) for i in range(1, n + 1) for k in range(i)
    )
    return new, opacity / total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 50, 51])
def test_is_the_papers_equation(n: int, dtype: torch.dtype) -> None:
    opacities = torch.tensor([0.005, 0.1, 0.5, 0.9, 0.999], dtype=dtype)
    scales = torch.tensor([[1.0, 0.2, 3.0]], dtype=dtype).repeat(5, 1)
    new_opacities, new_scales = compute_relocation(opacities, scales, torch.full((5,), n), binomial_table())
    assert new_opacities.dtype == new_scales.dtype == dtype
    expected = torch.tensor([by_the_paper(opacity, n) for opacity in opacities.double().tolist()], dtype=torch.float64)
    rtol = 1e-6 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(new_opacities.double(), expected[:, 0], rtol=rtol, atol=0)
    torch.testing.assert_close(new_scales.double(), expected[:, 1:] * scales.double(), rtol=rtol, atol=0)


@given(st.floats(0.001, 0.999), st.integers(1, N_MAX))
def test_copies_together_are_as_opaque_as_the_one(opacity: float, n: int) -> None:
    old = torch.tensor([opacity], dtype=torch.float64)
    new, _ = compute_relocation(old, torch.ones(1, 3), torch.tensor([n]), binomial_table())
    torch.testing.assert_close(1 - (1 - new) ** n, old, rtol=1e-9, atol=0)


@given(st.floats(0.01, 0.99), st.integers(1, 20))
def test_copies_together_absorb_as_much_along_a_line(opacity: float, n: int) -> None:
    """What equation (9) is derived from: the integral across the Gaussian of 1 - (1 - o exp(-x^2 / 2s^2))^n."""
    new, scales = compute_relocation(
        torch.tensor([opacity], dtype=torch.float64),
        torch.ones(1, 3, dtype=torch.float64),
        torch.tensor([n]),
        binomial_table(),
    )
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    one = torch.trapezoid(opacity * torch.exp(-(x**2) / 2), x)
    copies = torch.trapezoid(1 - (1 - new * torch.exp(-(x**2) / (2 * scales[0, 0] ** 2))) ** n, x)
    torch.testing.assert_close(copies, one, rtol=1e-6, atol=0)


def test_one_copy_changes_nothing() -> None:
    opacities, scales = torch.rand(10), torch.rand(10, 3)
    new_opacities, new_scales = compute_relocation(opacities, scales, torch.ones(10, dtype=torch.int), binomial_table())
    torch.testing.assert_close(new_opacities, opacities)
    torch.testing.assert_close(new_scales, scales)


def test_more_copies_than_the_table_knows_count_as_its_last() -> None:
    call = [torch.tensor([0.6]), torch.ones(1, 3)]
    at_limit = compute_relocation(*call, torch.tensor([N_MAX]), binomial_table())
    ratios = torch.tensor([5000])
    beyond = compute_relocation(*call, ratios, binomial_table())
    torch.testing.assert_close(beyond, at_limit)
    assert ratios.item() == 5000  # the caller's tensor is left alone


def test_nothing_to_relocate() -> None:
    new_opacities, new_scales = compute_relocation(
        torch.zeros(0), torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), binomial_table()
    )
    assert new_opacities.shape == (0,) and new_scales.shape == (0, 3)
