# SPDX-License-Identifier: Apache-2.0
"""A few values stand for many, nearly as well as the best few could."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from img3d_assets.splat_formats.palettes import codebook, nearest_codes, palette


def test_a_codebook_is_nearly_as_good_as_k_means() -> None:
    values = np.random.default_rng(0).normal(size=20_000) ** 3
    codes = codebook(values, 32)
    assert (np.diff(codes) >= 0).all()
    error = ((codes[nearest_codes(values, codes)] - values) ** 2).sum()
    best = KMeans(32, n_init=1, random_state=0).fit(values[:, None])
    assert error < 1.25 * best.inertia_


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300))
@settings(max_examples=20, deadline=None)
def test_few_values_are_kept(values: list[float]) -> None:
    codes = codebook(np.array(values), 256)
    assert len(codes) == 256
    nearest = codes[nearest_codes(np.array(values), codes)]
    assert np.abs(nearest - values).max() <= np.ptp(values) / 128 + 1e-6 * np.abs(values).max()


def test_a_palette_is_nearly_as_good_as_k_means_at_once() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(3000, 4)) @ rng.normal(size=(4, 24))).astype(np.float32)
    entries, labels = palette(vectors, 256)
    assert len(entries) <= 256 and labels.max() < len(entries)
    best = KMeans(256, n_init=1, max_iter=20, random_state=0).fit(vectors)
    assert ((entries[labels] - vectors) ** 2).sum() < 1.25 * best.inertia_


@pytest.mark.parametrize("size", [10, 20])
def test_a_palette_with_room_for_all_is_exact(size: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 9)).astype(np.float32)
    entries, labels = palette(vectors, size)
    np.testing.assert_array_equal(entries[labels], vectors)


def test_equal_vectors_need_one_entry() -> None:
    entries, labels = palette(np.ones((5000, 9), np.float32), 1024)
    np.testing.assert_allclose(entries[labels], 1, rtol=1e-6)
