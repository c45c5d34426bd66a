# SPDX-License-Identifier: Apache-2.0
"""Attention: the compiled kernel in bfloat16 against a reference in double precision; torch's where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hang_limit import HANG_SECONDS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from img3d_kernels import attention as module
from img3d_kernels.attention import COMPILED_CHANNELS, attention

ROUNDING = 2.0**-8
"""Of bfloat16, whose numbers have eight significant bits: the outputs' own, and that of the weights."""


def has_kernel() -> bool:
    try:
        from img3d_kernels import _C
    except ImportError:
        return False
    return _C.has_attention_bfloat16()


needs_kernel = pytest.mark.skipif(not has_kernel(), reason="the processor has no instructions for bfloat16")


def tokens(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def expected(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The definition, in double precision."""
    q, k, v = (each.double() for each in (queries, keys, values))
    weights = (torch.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return torch.einsum("bhts,bshd->bthd", weights, v)


def assert_rounded(found: Tensor, exact: Tensor, values: Tensor) -> None:
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    largest = float(values.abs().max())
    torch.testing.assert_close(found.double(), exact, rtol=ROUNDING, atol=ROUNDING * largest)


@needs_kernel
class TestTheKernel:
    @settings(deadline=None)
    @given(
        batch=st.integers(1, 2),
        heads=st.integers(1, 3),
        num_queries=st.integers(1, 130),
        num_keys=st.integers(1, 200),
        scale=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
        seed=st.integers(0, 1000),
    )
    def test_any_number_of_queries_keys_and_heads(
        self, batch: int, heads: int, num_queries: int, num_keys: int, scale: float, seed: int
    ) -> None:
        queries = tokens(batch, num_queries, heads, COMPILED_CHANNELS, scale=scale, seed=seed)
        keys = tokens(batch, num_keys, heads, COMPILED_CHANNELS, scale=scale, seed=seed + 1)
        values = tokens(batch, num_keys, heads, COMPILED_CHANNELS, seed=seed + 2)
        assert_rounded(attention(queries, keys, values), expected(queries, keys, values), values)

    def test_scores_may_be_huge(self) -> None:
        """A query then takes the value of the key that it suits best, whatever block that is in."""
        keys = torch.nn.functional.normalize(
            torch.randn(1, 300, 1, 64, generator=torch.Generator().manual_seed(3)), dim=-1
        )
        queries = (1e4 * keys[:, [0, 70, 299, 131]]).bfloat16()
        values = tokens(1, 300, 1, 64)
        found = attention(queries, keys.bfloat16(), values)
        torch.testing.assert_close(found, values[:, [0, 70, 299, 131]], rtol=0, atol=0)

    def test_slices_of_one_product(self) -> None:
        """As transformers make them: queries, keys and values beside each other."""
        together = tokens(2, 50, 3, 2, 64)
        queries, keys, values = (together[:, :, index] for index in range(3))
        assert_rounded(attention(queries, keys, values), expected(queries, keys, values), values)

    def test_autocast_changes_nothing(self) -> None:
        queries, keys, values = (tokens(1, 40, 2, 64, seed=seed) for seed in range(3))
        with torch.autocast("cpu", torch.bfloat16):
            found = attention(queries, keys, values)
        torch.testing.assert_close(found, attention(queries, keys, values), rtol=0, atol=0)

    def test_it_is_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def torchs(*_: Tensor) -> Tensor:
            raise AssertionError("torch's attention runs")

        monkeypatch.setattr(module, "scaled_dot_product_attention", torchs)
        attention(tokens(1, 5, 2, 64), tokens(1, 9, 2, 64), tokens(1, 9, 2, 64))
        for other in (tokens(1, 5, 2, 32), tokens(1, 5, 2, 64).float(), tokens(1, 5, 2, 64).requires_grad_()):
            with pytest.raises(AssertionError):
                attention(other, other, other)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"queries": np.zeros((1, 5, 2, 32), np.int16)}, "queries must have"),
            ({"keys": np.zeros((1, 9, 128), np.int16)}, "keys must have"),
            ({"keys": np.zeros((1, 9, 1, 64), np.int16)}, "elements"),
            ({"keys": np.zeros((1, 0, 2, 64), np.int16), "values": np.zeros((1, 0, 2, 64), np.int16)}, "a key"),
            ({"values": np.zeros((1, 8, 2, 64), np.int16)}, "elements"),
            ({"found": np.zeros((1, 4, 2, 64), np.int16)}, "elements"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, changed: dict[str, Any], message: str) -> None:
        from img3d_kernels import _C

        arrays = {name: np.zeros((1, 5, 2, 64), np.int16) for name in ("queries", "found")}
        arrays |= {name: np.zeros((1, 9, 2, 64), np.int16) for name in ("keys", "values")}
        with pytest.raises(ValueError, match=message):
            _C.attention_bfloat16(**{**arrays, **changed})
        with pytest.raises(TypeError):
            _C.attention_bfloat16(**{**arrays, "keys": arrays["keys"].astype(np.float32)})


def test_other_data_types_and_gradients_are_torchs() -> None:
    inputs = [tokens(2, 7, 3, 16, seed=seed).double().requires_grad_() for seed in range(3)]
    torch.testing.assert_close(attention(*inputs), expected(*inputs))
    assert torch.autograd.gradcheck(attention, inputs)


def test_there_is_none_for_another_instruction_set() -> None:
    code = "from img3d_kernels import _C; print(_C.has_attention_bfloat16())"
    pytest.importorskip("img3d_kernels._C", reason="the compiled kernels are not built")
    environment = {**os.environ, "IMG3D_ISA": "baseline"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=HANG_SECONDS
    )
    assert said.stdout.strip() == "False"
