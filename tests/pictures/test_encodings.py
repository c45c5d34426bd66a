# SPDX-License-Identifier: Apache-2.0
"""Colours of other encodings in sRGB: published values, round trips, and highlights that stay in range."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from img3d_pictures.encodings import KNEE, Encoding, linear_light, srgb_of_light, tone_gain


def shown(encoding: Encoding, *signal: float) -> list[int]:
    """A pixel whose signal is given in [0, 1], in sRGB."""
    return encoding.to_srgb(np.round(65535 * np.array(signal)).astype(np.uint16)[None, None])[0, 0].tolist()


@pytest.mark.parametrize(
    ("encoding", "signal", "expected"),
    [
        (Encoding("display-p3"), (234, 51, 35), (255, 0, 0)),  # sRGB's red, as every colour calculator has it
        (Encoding("display-p3"), (117, 251, 76), (0, 255, 0)),
        (Encoding("display-p3"), (128, 128, 128), (128, 128, 128)),
        (Encoding("adobe-rgb", "adobe-rgb"), (219, 0, 0), (255, 0, 0)),
        (Encoding("adobe-rgb", "adobe-rgb"), (255, 255, 255), (255, 255, 255)),
    ],
)
def test_known_colours(encoding: Encoding, signal: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    # Half a level of a signal is up to three levels where sRGB is darkest: there its slope is 12.92.
    pixel = np.array(signal, dtype=np.uint8)[None, None]
    np.testing.assert_allclose(encoding.to_srgb(pixel)[0, 0], expected, atol=3)


def test_wide_colours_are_clipped_to_the_nearest() -> None:
    assert Encoding("display-p3").to_srgb(np.array([[[255, 0, 0]]], dtype=np.uint8))[0, 0].tolist() == [255, 0, 0]


def test_srgb_stays_as_it_is() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels] * 3, axis=-1)[None]
    np.testing.assert_array_equal(Encoding().to_srgb(pixels), pixels)


class TestHdr:
    def test_published_levels(self) -> None:
        """BT.2408: graphics white is 75 % of HLG and 58 % of PQ; 18 % grey is 38 % of both."""
        assert linear_light(np.array(0.75), "hlg") == pytest.approx(1)
        assert linear_light(np.array(0.58), "pq") == pytest.approx(1, abs=0.01)
        assert linear_light(np.array(0.38), "hlg") == pytest.approx(0.18, abs=0.01)
        assert linear_light(np.array(1.0), "hlg") == pytest.approx(3.77, abs=0.01)

    @pytest.mark.parametrize("transfer", ["hlg", "pq"])
    def test_white_paper_is_nearly_white_and_highlights_are_in_range(self, transfer: str) -> None:
        encoding = Encoding("bt2020", transfer)  # pyright: ignore[reportArgumentType]
        assert encoding.is_hdr
        white = 0.75 if transfer == "hlg" else 0.58
        assert 230 < shown(encoding, white, white, white)[0] < 255
        assert shown(encoding, 1, 1, 1) == [255, 255, 255]

    def test_hue_of_bright_colours_is_kept(self) -> None:
        orange = np.array([[[3.0, 1.5, 0.3]]], dtype=np.float32)
        mapped = orange * tone_gain(orange.max(axis=-1, keepdims=True), 3.77)
        np.testing.assert_allclose(mapped / mapped[..., :1], orange / orange[..., :1], rtol=1e-6)

    @given(st.floats(0, 3.7), st.floats(0.001, 0.05))
    def test_brighter_light_is_shown_brighter(self, light: float, more: float) -> None:
        values = np.array([light, light + more], dtype=np.float32)
        low, high = values * tone_gain(values, 3.77)
        assert low < high <= 1.001
        assert low == pytest.approx(light) or light > KNEE


def test_light_that_is_no_number() -> None:
    light = np.array([np.nan, np.inf, -np.inf, -1, 7, 0.2140], dtype=np.float32)
    assert srgb_of_light(light).tolist() == [0, 255, 0, 0, 255, 127]
