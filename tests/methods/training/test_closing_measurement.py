# SPDX-License-Identifier: Apache-2.0
"""The measurement at the end of a run is bounded, can be stopped, and looks at photos from everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from img3d_base.signals import Terminated
from img3d_methods.training import closing_measurement
from img3d_methods.training.closing_measurement import measure, spread_order, time_limit
from img3d_methods.training.trainer import _figures


class Clock:
    """A model each of whose pictures takes `seconds`; the value of a photo is its PSNR."""

    def __init__(self, seconds: float, stop_at: int = 10**9, stop: type[BaseException] = KeyboardInterrupt) -> None:
        self.now, self.seconds, self.stop_at, self.stop = 0.0, seconds, stop_at, stop
        self.rendered: list[int] = []

    def eval(self) -> None: ...

    def get_outputs_for_camera(self, camera: Any) -> int:
        if len(self.rendered) == self.stop_at:
            raise self.stop
        self.now += self.seconds
        self.rendered.append(camera)
        return camera

    def get_image_metrics_and_images(self, outputs: int, batch: int) -> tuple[dict[str, float], dict[str, Any]]:
        assert outputs == batch
        return {"psnr": float(outputs)}, {}


@pytest.fixture
def photos() -> Any:
    return [(index, index) for index in range(200)]


def measured_by(clock: Clock, photos: Any, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(closing_measurement.time, "monotonic", lambda: clock.now)
    return measure(clock, photos, time_limit(seconds))  # pyright: ignore[reportArgumentType]


def test_quick_pictures_are_all_measured(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured_by(Clock(0.05), photos, 100, monkeypatch)
    assert found.num_measured == 200 and found.metrics == {"psnr": 99.5}


def test_slow_pictures_take_a_tenth_of_the_run(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(6)
    found = measured_by(clock, photos, 600, monkeypatch)
    assert found.num_measured == 11 and clock.now == 66
    assert found.metrics["psnr"] == pytest.approx(99.5, abs=15), "photos from one end only"


def test_a_run_without_training_has_minutes(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_by(Clock(15), photos[:10], None, monkeypatch).num_measured == 10
    clock = Clock(15)
    assert measured_by(clock, photos, None, monkeypatch).num_measured == 13 and clock.now == 195


def test_at_least_one_picture_is_measured(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_by(Clock(1000), photos, 1, monkeypatch).num_measured == 1


def test_ctrl_c_ends_it_with_what_there_is(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_by(Clock(0.1, stop_at=7), photos, 100, monkeypatch).num_measured == 7
    nothing = measured_by(Clock(0.1, stop_at=0), photos, 100, monkeypatch)
    assert nothing.num_measured == 0 and nothing.metrics == {}


def test_sigterm_ends_the_program(photos: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Terminated):
        measured_by(Clock(0.1, stop_at=7, stop=Terminated), photos, 100, monkeypatch)


def test_holes_are_told_apart_from_the_mesh() -> None:
    metrics = {"psnr": 20.9, "ssim": 0.8, "coverage": 0.88, "covered_psnr": 24.71}
    assert _figures(metrics) == "PSNR 20.90 dB, SSIM 0.800; PSNR 24.71 dB on the 88% that the mesh covers"
    assert _figures({}) == "not measured"


def test_every_beginning_of_the_order_is_spread() -> None:
    order = spread_order(100)
    assert sorted(order) == list(range(100))
    for count in (4, 10, 30):
        gaps = [b - a for a, b in zip(sorted(order[:count]), sorted(order[:count])[1:], strict=False)]
        assert max(gaps) < 3.2 * 100 / count
