# SPDX-License-Identifier: Apache-2.0
"""How far a photo set is from having enough photos, by which some limits of training follow."""

from __future__ import annotations

FEW_PHOTOS, ENOUGH_PHOTOS = 15, 24


def scarcity(num_photos: int) -> float:
    """1 with few photos or fewer, 0 with enough of them or more, linear in between.

    Args:
        num_photos: The number of training photos.
    """
    return min(1.0, max(0.0, (ENOUGH_PHOTOS - num_photos) / (ENOUGH_PHOTOS - FEW_PHOTOS)))
