# SPDX-License-Identifier: Apache-2.0
"""The measurement of held-out photos at the end of a run: it takes a bounded share of the run's time, shows its
progress, and ends early on Ctrl-C.

A field renders a picture in seconds, and a data set may hold out 200 photos: to render all of them could take longer
than the training. `ns-eval` always measures all of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.base_model import Model

from img3d_base.progress import with_progress
from img3d_base.signals import Terminated

SHARE = 0.1
"""Maximum duration of the measurement, as a share of the training time."""
MIN_SECONDS = 20.0
"""The measurement may always take this long."""
UNTRAINED_SECONDS = 180.0
"""It may take this long after a run without training steps, whose result takes minutes to make or to generate."""
GOLDEN_RATIO = 0.6180339887498949


@dataclass
class ClosingMeasurement:
    """Mean metrics of some held-out photos."""

    metrics: dict[str, float]
    """By name; empty if no photo was measured."""
    num_measured: int


def spread_order(count: int) -> list[int]:
    """The numbers below `count`, in an order whose first numbers are always spread evenly over all."""
    return sorted(range(count), key=lambda index: index * GOLDEN_RATIO % 1)


def time_limit(training_seconds: float | None) -> float:
    """The seconds that the measurement may take.

    Args:
        training_seconds: The time that the run has trained; None for a run without training steps.
    """
    return UNTRAINED_SECONDS if training_seconds is None else max(MIN_SECONDS, SHARE * training_seconds)


@torch.no_grad()
def measure(model: Model, photos: Sequence[tuple[Cameras, dict[str, Any]]], max_seconds: float) -> ClosingMeasurement:
    """Renders photos one by one until the time is used up, the first in any case.

    Args:
        model: The trained model. It is in evaluation mode afterwards.
        photos: Cameras `[1]` and what they have to be compared with.
        max_seconds: No photo is begun after this time, except the first.

    Returns:
        The means over the photos that were measured before the time was used up or Ctrl-C came.

    Raises:
        Terminated: On SIGTERM.
    """
    model.eval()
    began = time.monotonic()
    values: defaultdict[str, list[float]] = defaultdict(list)
    measured = 0
    try:
        for index in with_progress(spread_order(len(photos)), "Measuring held-out photos", len(photos)):
            camera, batch = photos[index]
            metrics, _ = model.get_image_metrics_and_images(model.get_outputs_for_camera(camera=camera), batch)
            for name, value in metrics.items():
                values[name].append(float(value))
            measured += 1
            if time.monotonic() - began > max_seconds:
                break
    except Terminated:
        raise
    except KeyboardInterrupt:
        pass
    return ClosingMeasurement({name: fmean(numbers) for name, numbers in values.items()}, measured)
