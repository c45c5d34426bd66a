# SPDX-License-Identifier: Apache-2.0
"""Semi-global matching: exact along a line, and smooth where jumps cost."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from img3d_kernels.stereo.semi_global import semi_global

NUM_LABELS = 3
JUMPS = (torch.arange(NUM_LABELS)[:, None] - torch.arange(NUM_LABELS)).abs().clamp(max=1).float()


def best_of_all(costs: torch.Tensor, stiffness: torch.Tensor) -> tuple[int, ...]:
    """The labels of a line `[n, D]` with the least total, by trying all of them."""

    def total(labels: tuple[int, ...]) -> float:
        own = sum(float(costs[i, label]) for i, label in enumerate(labels))
        pairs = itertools.pairwise(labels)
        return own + sum(float(factor * JUMPS[a, b]) for factor, (a, b) in zip(stiffness, pairs, strict=True))

    return min(itertools.product(range(NUM_LABELS), repeat=len(costs)), key=total)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_a_line_has_the_least_total_cost(seed: int, length: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    costs, stiffness = (torch.rand(*shape, generator=generator) for shape in ((length, NUM_LABELS), (length - 1,)))
    expected = best_of_all(costs, stiffness)
    row = semi_global(costs[None], JUMPS, torch.empty(0, length), stiffness[None])
    column = semi_global(costs[:, None], JUMPS, stiffness[:, None], torch.empty(length, 0))
    assert tuple(row[0].tolist()) == tuple(column[:, 0].tolist()) == expected


def test_what_one_cell_knows_reaches_all_up_to_an_edge() -> None:
    costs = torch.zeros(6, 8, NUM_LABELS)
    costs[..., 0] = 0.1  # rather not
    costs[2, 1] = torch.tensor([0.0, 9, 9])
    right = torch.ones(6, 7)
    right[:, 3] = 0  # an edge
    labels = semi_global(costs, JUMPS, torch.ones(5, 8), right)
    assert (labels[:, :4] == 0).sum() > 0.3 * 24 and (labels[2, :4] == 0).all() and (labels[:, 1] == 0).all()
    assert (labels[:, 4:] != 0).all()
