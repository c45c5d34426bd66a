# SPDX-License-Identifier: Apache-2.0
"""The hash grid: what interpolation must do, the paper's entries, and the compiled kernel against its torch twin."""

from __future__ import annotations

from collections.abc import Iterator

import kernel_scenes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from img3d_kernels.hash_grid import hash_grid, level_resolutions

DTYPES = [
    pytest.param(torch.float32, marks=kernel_scenes.needs_compiled, id="cpu"),
    pytest.param(torch.float64, id="torch"),
]
"""Single precision goes to the compiled kernel, double to the torch twin."""


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    with kernel_scenes.one_torch_thread():
        yield


def random_grid(
    n: int, table_size: int, resolutions: list[int], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, table, and weights of a sum over the features; the same in both precisions.

    The positions are multiples of 2^-12, 0 and 1 among them, so that those on a grid of up to 4096 cells are exact in
    single precision.
    """
    generator = torch.Generator().manual_seed(n)
    positions = torch.randint(0, 4097, (n, 3), generator=generator) / 4096
    table = torch.randn(len(resolutions), table_size, 2, generator=generator)
    weights = torch.randn(n, 2 * len(resolutions), generator=generator)
    return positions.to(dtype), table.to(dtype).requires_grad_(), weights.to(dtype)


def features_and_gradient(
    positions: Tensor, table: Tensor, resolutions: list[int], weights: Tensor
) -> tuple[Tensor, Tensor]:
    features = hash_grid(positions, table, resolutions)
    (gradient,) = torch.autograd.grad((features * weights).sum(), table)
    return features.detach(), gradient


@kernel_scenes.needs_compiled
@settings(max_examples=60, deadline=None)
@given(
    n=st.sampled_from([0, 1, 2, 15, 16, 17, 127, 128, 129, 300]) | st.integers(0, 3000),
    log2_table_size=st.integers(0, 14),
    resolutions=st.lists(st.integers(1, 4096) | st.sampled_from([1, 2, 4, 8, 16]), min_size=1, max_size=6),
)
def test_values_and_gradients_are_those_of_the_torch_twin(n: int, log2_table_size: int, resolutions: list[int]) -> None:
    actual, expected = (
        features_and_gradient(positions, table, resolutions, weights)
        for dtype in (torch.float32, torch.float64)
        for positions, table, weights in [random_grid(n, 1 << log2_table_size, resolutions, dtype)]
    )
    assert actual[0].dtype == actual[1].dtype == torch.float32
    torch.testing.assert_close(actual[0].double(), expected[0], rtol=0, atol=1e-5)
    # Up to n contributions to an entry, one after the other.
    torch.testing.assert_close(actual[1].double(), expected[1], rtol=0, atol=1e-6 * (n + 10))


@kernel_scenes.needs_compiled
def test_between_the_cells_rounding_jumps_over_nothing() -> None:
    """Positions as they come: one may land in the next cell, where the features go on from the same corner."""
    positions, resolutions = torch.rand(20_000, 3), [16, 1000]
    positions[:2000] = torch.randint(0, 1001, (2000, 3)) / 1000
    table = torch.randn(2, 1 << 12, 2)
    difference = hash_grid(positions, table, resolutions) - hash_grid(positions.double(), table.double(), resolutions)
    assert difference.abs().max() < 2e-3  # of a cell: 1000 * 2^-24 along each axis


def test_the_gradient_of_the_twin_is_that_of_finite_differences() -> None:
    positions, table, _ = random_grid(6, 32, [2, 7], torch.float64)
    assert torch.autograd.gradcheck(lambda t: hash_grid(positions, t, [2, 7]), table)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("resolution", [1, 8, 9])
def test_a_dense_level_reproduces_a_linear_function(resolution: int, dtype: torch.dtype) -> None:
    """Exactly: all numbers are short binary fractions. The corners lie in the table with x running fastest."""

    def linear(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return torch.stack([x + 2 * y - 4 * z + 0.5, 3 * z - x], dim=-1)

    side = torch.arange(resolution + 1, dtype=dtype)
    z, y, x = torch.meshgrid(side, side, side, indexing="ij")
    table = torch.full((1, 1024, 2), torch.nan, dtype=dtype)
    table[0, : side.numel() ** 3] = linear(x, y, z).reshape(-1, 2)
    positions = (random_grid(500, 1, [], dtype)[0] * 16).round() / 16
    positions[:8] = torch.cartesian_prod(*[torch.tensor([0, 1], dtype=dtype)] * 3)
    assert torch.equal(hash_grid(positions, table, [resolution]), linear(*(positions * resolution).unbind(-1)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("corner", [(0, 0, 0), (3, 5, 7), (63, 0, 64), (64, 64, 64)])
def test_a_corner_of_a_hashed_level_has_the_papers_entry(corner: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, y, z = corner
    table = torch.randn(1, 1 << 14, 2, dtype=dtype)
    entry = (x ^ (y * 2654435761) % 2**32 ^ (z * 805459861) % 2**32) % (1 << 14)
    assert torch.equal(hash_grid(torch.tensor([corner], dtype=dtype) / 64, table, [64])[0], table[0, entry])


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_sum_to_one_and_levels_do_not_mix(dtype: torch.dtype) -> None:
    resolutions = [3, 16, 4096]
    positions, table, weights = random_grid(1000, 1 << 10, resolutions, dtype)
    _, gradient = features_and_gradient(positions, table, resolutions, weights)
    torch.testing.assert_close(gradient.sum(dim=1).flatten(), weights.sum(dim=0), rtol=0, atol=1e-3)
    constants = torch.arange(6, dtype=dtype).reshape(3, 1, 2).repeat(1, 1 << 10, 1)
    torch.testing.assert_close(
        hash_grid(positions, constants, resolutions), constants[:, 0].reshape(1, 6).expand(1000, 6)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_outside_are_moved_to_the_border(dtype: torch.dtype) -> None:
    positions, table, _ = random_grid(200, 256, [4, 50], dtype)
    positions = 3 * positions - 1
    positions[0] = torch.tensor([torch.inf, -torch.inf, 1e30])
    expected = hash_grid(positions.clamp(0, 1), table, [4, 50])
    assert torch.equal(hash_grid(positions, table, [4, 50]), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_position_that_is_not_a_number_has_such_features_and_no_other_has(dtype: torch.dtype) -> None:
    positions, table, _ = random_grid(100, 256, [4, 50], dtype)
    expected = hash_grid(positions, table, [4, 50])
    positions[7, 1] = torch.nan
    features = hash_grid(positions, table, [4, 50])
    assert features[7].isnan().all()
    others = torch.arange(100) != 7
    assert torch.equal(features[others], expected[others])


@pytest.mark.parametrize("dtype", DTYPES)
def test_inputs_and_gradients_may_lie_in_memory_as_they_like(dtype: torch.dtype) -> None:
    resolutions = [5, 40]
    positions, table, weights = random_grid(333, 512, resolutions, dtype)
    strided = table.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    expected = features_and_gradient(positions, table, resolutions, weights)
    actual = features_and_gradient(positions.T.contiguous().T, strided, resolutions, weights.T.contiguous().T)
    assert torch.equal(actual[0], expected[0]) and torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_get_no_gradient(dtype: torch.dtype) -> None:
    positions, table, _ = random_grid(10, 64, [3], dtype)
    positions.requires_grad_()
    hash_grid(positions, table, [3]).sum().backward()
    assert positions.grad is None and table.grad is not None
    assert not hash_grid(positions, table.detach(), [3]).requires_grad


@kernel_scenes.needs_compiled
def test_the_gradient_is_the_same_for_any_number_of_threads() -> None:
    from img3d_kernels import _C

    resolutions = level_resolutions(5, 4, 512)
    positions, table, weights = random_grid(20_000, 1 << 12, resolutions)
    threads = _C.num_threads()
    gradients = []
    try:
        for n in (1, 2, 5, 2):
            _C.set_num_threads(n)
            gradients.append(features_and_gradient(positions, table, resolutions, weights)[1])
    finally:
        _C.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


@pytest.mark.parametrize(
    ("positions", "table", "resolutions", "message"),
    [
        ((5, 2), (1, 16, 2), [4], r"positions must be \[N, 3\], got \[5, 2\]"),
        ((3,), (1, 16, 2), [4], r"positions must be \[N, 3\], got \[3\]"),
        ((5, 3), (16, 2), [4], r"table must be \[L, T, 2\], got \[16, 2\]"),
        ((5, 3), (1, 16, 4), [4], r"table must be \[L, T, 2\], got \[1, 16, 4\]"),
        ((5, 3), (0, 16, 2), [], r"table must be \[L, T, 2\], got \[0, 16, 2\]"),
        ((5, 3), (1, 24, 2), [4], "power of two of entries, got 24"),
        ((5, 3), (1, 0, 2), [4], "power of two of entries, got 0"),
        ((5, 3), (2, 16, 2), [4], "a resolution for each of 2 levels, got 1"),
        ((5, 3), (2, 16, 2), [4, 0], r"resolutions must be from 1 to 16777216, got \[4, 0\]"),
    ],
)
@pytest.mark.usefixtures("annotations_unchecked")
def test_what_does_not_fit_is_named(
    positions: tuple[int, ...], table: tuple[int, ...], resolutions: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        hash_grid(torch.zeros(positions), torch.zeros(table), resolutions)


def test_resolutions_grow_geometrically() -> None:
    assert level_resolutions(7, 16, 1024) == [16, 32, 64, 128, 256, 512, 1024]
    # Table 1 of the paper: 16 levels from 16 to 512 grow by 1.26.
    assert level_resolutions(16, 16, 512)[:5] == [16, 20, 25, 32, 40]
    assert level_resolutions(3, 16, 16) == [16, 16, 16]


@given(st.integers(2, 20), st.integers(1, 100), st.integers(0, 10_000))
def test_resolutions_begin_and_end_as_asked(num_levels: int, base: int, more: int) -> None:
    resolutions = level_resolutions(num_levels, base, base + more)
    assert len(resolutions) == num_levels
    assert (resolutions[0], resolutions[-1]) == (base, base + more)
    assert resolutions == sorted(resolutions)


@pytest.mark.parametrize(("num_levels", "base", "finest"), [(1, 16, 16), (0, 1, 2), (4, 0, 8), (4, 32, 16)])
def test_resolutions_that_cannot_grow_are_refused(num_levels: int, base: int, finest: int) -> None:
    with pytest.raises(ValueError, match=f"got {num_levels} levels from {base} to {finest}"):
        level_resolutions(num_levels, base, finest)
