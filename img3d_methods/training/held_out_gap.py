# SPDX-License-Identifier: Apache-2.0
"""What it means that photos that were held out are rendered worse than those trained on, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from img3d_methods.training.curve import CurvePoint

NOTABLE = 5.0
"""Decibels. With enough photos of a still scene it is 1 to 3 (fox: 2)."""
ENOUGH_PHOTOS = 40
"""For a room or an object from all sides; fewer may do, and are the first suspect where they don't."""
MIN_POINTS = 3


def training_psnr(curve: Sequence[CurvePoint], full_size_step: int) -> float | None:
    """PSNR of what was trained on in the last tenth of a run.

    Args:
        curve: Of the run.
        full_size_step: Step from which photos were trained on at full size.

    Returns:
        dB; None where too little was measured.
    """
    if not curve:
        return None
    since = max(full_size_step, 0.9 * curve[-1].step)
    last = [point.psnr for point in curve if point.step >= since]
    return fmean(last) if len(last) >= MIN_POINTS else None


def gap_message(trained_on: float | None, held_out: float, num_photos: int) -> str | None:
    """What to tell about the difference, or None where it is nothing unusual.

    Args:
        trained_on: PSNR of photos that were trained on, in dB, if known.
        held_out: Mean PSNR of those that were not, in dB.
        num_photos: How many were trained on.
    """
    if trained_on is None or trained_on - held_out < NOTABLE:
        return None
    photos = f"too few photos ({num_photos} were trained on; take more, with much overlap, all around)"
    moved = "things that moved, or light that changed, between photos (mask or retake these)"
    poses = (
        "wrong camera poses (look at `img3d-photos inspect`; try --pipeline.model.camera-optimizer.mode SO3xR3, or "
        "solve for them anew)"
    )
    reasons = [photos, moved, poses] if num_photos < ENOUGH_PHOTOS else [moved, poses, photos]
    return (
        f"Held-out photos are {trained_on - held_out:.0f} dB below those trained on ({trained_on:.1f} dB): from where "
        f"no photo was taken, the scene looks as the held-out ones do. Usual reasons: {'; '.join(reasons)}."
    )
