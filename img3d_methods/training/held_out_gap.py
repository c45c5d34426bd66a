# SPDX-License-Identifier: Apache-2.0
"""Explains why held-out photos are rendered worse than the training photos, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from img3d_methods.training.curve import CurvePoint

NOTABLE = 5.0
"""In dB. With enough photos of a static scene the gap is 1 to 3 dB (fox: 2)."""
MIN_PHOTOS = 40
"""Enough for a room or an object from all sides; fewer may do, but are the first suspect if there is a gap."""
MIN_POINTS = 3


def training_psnr(curve: Sequence[CurvePoint], full_size_step: int) -> float | None:
    """Mean PSNR of training photos in the last tenth of a run.

    Args:
        curve: The run's training curve.
        full_size_step: The step from which photos have their full size.

    Returns:
        In dB; None if there are too few measurements.
    """
    if not curve:
        return None
    since = max(full_size_step, 0.9 * curve[-1].step)
    last = [point.psnr for point in curve if point.step >= since]
    return fmean(last) if len(last) >= MIN_POINTS else None


def gap_message(trained_on: float | None, held_out: float, num_photos: int) -> str | None:
    """A message about the gap; None if it is not unusual.

    Args:
        trained_on: Mean PSNR of training photos in dB, if known.
        held_out: Mean PSNR of held-out photos in dB.
        num_photos: The number of training photos.
    """
    if trained_on is None or trained_on - held_out < NOTABLE:
        return None
    photos = f"too few photos ({num_photos} were trained on; take more, with much overlap, all around)"
    moved = "things that moved, or light that changed, between photos (mask or retake these)"
    poses = "wrong camera poses (look at `img3d-photos inspect`, or solve them anew from the photos alone)"
    reasons = [photos, moved, poses] if num_photos < MIN_PHOTOS else [moved, poses, photos]
    return (
        f"Held-out photos are {trained_on - held_out:.0f} dB below those trained on ({trained_on:.1f} dB): from "
        f"viewpoints without a photo, the scene looks like these. Usual reasons: {'; '.join(reasons)}."
    )
