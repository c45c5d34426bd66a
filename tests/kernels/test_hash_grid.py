# SPDX-License-Identifier: Apache-2.0
"""The hash grid: what interpolation must do, and the paper's entries. `fields/test_volume_rendering.py` compares the
compiled one with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from img3d_kernels.hash_grid import hash_grid, level_resolutions

DTYPES = [torch.float32, torch.float64]


def random_grid(n: int, table_size: int, resolutions: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Positions and table.

    The positions are multiples of 2^-12, 0 and 1 among them, so that those on a grid of up to 4096 cells are exact in
    single precision.
    """
    generator = torch.Generator().manual_seed(n)
    positions = torch.randint(0, 4097, (n, 3), generator=generator) / 4096
    table = torch.randn(len(resolutions), table_size, 2, generator=generator)
    return positions.to(dtype), table.to(dtype).requires_grad_()


def test_the_gradient_is_that_of_finite_differences() -> None:
    _, table = random_grid(6, 32, [2, 7], torch.float64)
    inside_cells = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: hash_grid(p, t, [2, 7]), [inside_cells, table])


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
    positions, table = random_grid(1000, 1 << 10, resolutions, dtype)
    weights = torch.randn(1000, 6, dtype=dtype)
    (gradient,) = torch.autograd.grad((hash_grid(positions, table, resolutions) * weights).sum(), table)
    torch.testing.assert_close(gradient.sum(dim=1).flatten(), weights.sum(dim=0), rtol=0, atol=1e-3)
    constants = torch.arange(6, dtype=dtype).reshape(3, 1, 2).repeat(1, 1 << 10, 1)
    torch.testing.assert_close(
        hash_grid(positions, constants, resolutions), constants[:, 0].reshape(1, 6).expand(1000, 6)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_outside_are_moved_to_the_border(dtype: torch.dtype) -> None:
    positions, table = random_grid(200, 256, [4, 50], dtype)
    positions = 3 * positions - 1
    positions[0] = torch.tensor([torch.inf, -torch.inf, 1e30])
    expected = hash_grid(positions.clamp(0, 1), table, [4, 50])
    assert torch.equal(hash_grid(positions, table, [4, 50]), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_position_that_is_not_a_number_has_such_features_and_no_other_has(dtype: torch.dtype) -> None:
    positions, table = random_grid(100, 256, [4, 50], dtype)
    expected = hash_grid(positions, table, [4, 50])
    positions[7, 1] = torch.nan
    features = hash_grid(positions, table, [4, 50])
    assert features[7].isnan().all()
    others = torch.arange(100) != 7
    assert torch.equal(features[others], expected[others])


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
