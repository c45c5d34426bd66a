# SPDX-License-Identifier: Apache-2.0
"""Reads a run's training curve from our own table or from Tensorboard's events."""

from __future__ import annotations

from pathlib import Path

from img3d_base.errors import warn
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, read_curve

LOSS, PSNR, GAUSSIANS = "Train Loss", "Train Metrics Dict/psnr", "Train Metrics Dict/gaussian_count"
"""Tags of Nerfstudio's trainer and models."""


def training_curve(folder: Path) -> list[CurvePoint]:
    """The training curve of the run in this folder; empty if it kept none, as with Nerfstudio's viewer alone."""
    try:
        points = read_curve(folder / CURVE_FILE)
    except ValueError as error:
        warn(f"{error}.")
        points = []
    return points or _points_of_tensorboard(folder)


def _points_of_tensorboard(folder: Path) -> list[CurvePoint]:
    if not any(folder.glob("events.out.tfevents.*")):
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # takes a second to import

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    if not {LOSS, PSNR} <= tags:
        return []
    psnr = {event.step: event.value for event in events.Scalars(PSNR)}
    gaussians = {event.step: int(event.value) for event in events.Scalars(GAUSSIANS)} if GAUSSIANS in tags else {}
    losses = [event for event in events.Scalars(LOSS) if event.step in psnr]
    return [
        CurvePoint(
            loss.step, loss.wall_time - losses[0].wall_time, loss.value, psnr[loss.step], gaussians.get(loss.step, 0)
        )
        for loss in losses
    ]
