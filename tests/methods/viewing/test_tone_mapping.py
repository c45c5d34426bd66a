# SPDX-License-Identifier: Apache-2.0
"""The inverse of the page's tone mapping: colours come out as they went in, within what 8 bits and the curve allow."""

from __future__ import annotations

import numpy as np
import pytest

from img3d_assets.color_values import linear_of_srgb, srgb_of_linear
from img3d_methods.viewing.tone_mapping import MAX_LINEAR, before_tone_mapping, tone_mapped

GREYS = np.linspace(0, 1, 256)[:, None].repeat(3, axis=1)


def shown(srgb: np.ndarray) -> np.ndarray:
    return srgb_of_linear(tone_mapped(before_tone_mapping(linear_of_srgb(srgb))))


def test_the_page_dims_white_without_it() -> None:
    assert srgb_of_linear(tone_mapped(np.ones((1, 3)))).mean() == pytest.approx(0.888, abs=0.001)


def test_greys_are_kept() -> None:
    np.testing.assert_allclose(shown(GREYS), GREYS, atol=0.03)
    np.testing.assert_allclose(shown(GREYS[:240]), GREYS[:240], atol=0.006)


def test_colours_are_kept_unless_the_curve_cannot_reach_them() -> None:
    colors = np.random.default_rng(0).uniform(0.15, 0.9, (1000, 3))
    errors = np.abs(shown(colors) - colors)
    assert np.quantile(errors, 0.9) < 0.02 and errors.max() < 0.25
    primaries = np.eye(3)
    assert np.abs(shown(primaries) - primaries).max() < 0.45


def test_eight_bits_are_enough_for_a_texture() -> None:
    stored = np.round(srgb_of_linear(before_tone_mapping(linear_of_srgb(GREYS)) / MAX_LINEAR) * 255) / 255
    page = srgb_of_linear(tone_mapped(MAX_LINEAR * linear_of_srgb(stored)))
    assert np.abs(page - GREYS).max() < 0.03
    assert np.sqrt(((page - GREYS) ** 2).mean()) < 0.01
