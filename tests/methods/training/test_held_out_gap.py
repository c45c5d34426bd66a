# SPDX-License-Identifier: Apache-2.0
"""A run that fits its own photos only is told so, with what to do."""

from __future__ import annotations

import pytest

from img3d_methods.training.curve import CurvePoint
from img3d_methods.training.held_out_gap import gap_message, training_psnr


def curve(psnrs: list[float]) -> list[CurvePoint]:
    return [CurvePoint(50 * i, 1.0 * i, 0.1, psnr, 1000) for i, psnr in enumerate(psnrs)]


def test_the_end_of_the_run_is_what_counts() -> None:
    assert training_psnr(curve([10.0] * 36 + [30.0, 31.0, 32.0, 33.0, 34.0]), full_size_step=0) == pytest.approx(32)


def test_small_photos_do_not_count() -> None:
    assert training_psnr(curve([10.0] * 37 + [30.0] * 4), full_size_step=1_950) is None
    assert training_psnr(curve([10.0] * 4 + [30.0] * 37), full_size_step=200) == 30.0


@pytest.mark.parametrize("points", [0, 2])
def test_short_runs_say_nothing(points: int) -> None:
    assert training_psnr(curve([30.0] * points), 0) is None
    assert gap_message(None, 10.0, 20) is None


def test_a_usual_difference_is_not_mentioned() -> None:
    assert gap_message(33.0, 31.1, 43) is None


@pytest.mark.parametrize(("photos", "first"), [(21, "too few photos (21"), (200, "things that moved")])
def test_a_large_one_is_explained_with_what_to_do(photos: int, first: str) -> None:
    message = gap_message(29.4, 21.2, photos)
    assert message is not None and "\n" not in message
    assert message.startswith("Held-out photos are 8 dB below those trained on (29.4 dB)")
    assert f"Usual reasons: {first}" in message
    assert "solve them anew" in message and "img3d-photos inspect" in message and "mask" in message
