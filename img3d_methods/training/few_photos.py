# SPDX-License-Identifier: Apache-2.0
"""Limits of training that depend on whether there are enough photos."""

from __future__ import annotations

FEW_PHOTOS, ENOUGH_PHOTOS = 15, 24


def by_photos(num_photos: int, few: float, enough: float) -> float:
    """A limit for this many photos, between those of few and of enough photos linear in their number.

    Args:
        num_photos: The number of training photos.
        few: The limit with `FEW_PHOTOS` or fewer.
        enough: The limit with `ENOUGH_PHOTOS` or more.
    """
    scarcity = min(1.0, max(0.0, (ENOUGH_PHOTOS - num_photos) / (ENOUGH_PHOTOS - FEW_PHOTOS)))
    return scarcity * few + (1 - scarcity) * enough
