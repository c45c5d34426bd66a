# SPDX-License-Identifier: Apache-2.0
"""The directions from which photos look at their common subject, and the gaps between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray

IN_VIEW = 25.0
"""Largest angle in degrees between a photo's viewing direction and its subject."""
MIN_SHARE = 0.8
"""Smallest share of the photos that must show the common subject."""


@dataclass(frozen=True)
class Viewpoints:
    """The directions from which photos look at their common subject."""

    gap: float
    """The widest sector without a photo in degrees, as seen from the subject."""
    before: str
    """Name of the photo at one side of it."""
    after: str
    """Name of the photo at the other side."""
    lowest: float
    """Elevation in degrees above the horizon: the 10th percentile of the photos."""
    highest: float
    """Elevation in degrees above the horizon: the 90th percentile of the photos."""


def viewpoints_of(names: Sequence[str], camera_to_worlds: FloatArray) -> Viewpoints | None:
    """Finds the common subject of the photos; None if there is none, as in a room or a street.

    Args:
        names: The names of the photos.
        camera_to_worlds: `[N, 4, 4]`, OpenGL axes, z up.
    """
    origins, forward = camera_to_worlds[:, :3, 3], -camera_to_worlds[:, :3, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None]  # the distance from a ray is |across (x - origin)|
    middle = np.linalg.lstsq(across.sum(axis=0), np.einsum("nij,nj->i", across, origins), rcond=None)[0]
    offsets = origins - middle
    distances = np.linalg.norm(offsets, axis=1)
    if not (distances > 0).all():
        return None
    cosines = -np.einsum("ni,ni->n", offsets, forward) / distances
    if (cosines > np.cos(np.radians(IN_VIEW))).mean() < MIN_SHARE:
        return None
    azimuths = np.degrees(np.arctan2(offsets[:, 1], offsets[:, 0]))
    order = np.argsort(azimuths)
    gaps = np.diff(azimuths[order], append=azimuths[order[0]] + 360)
    widest = int(gaps.argmax())
    lowest, highest = np.percentile(np.degrees(np.arcsin(offsets[:, 2] / distances)), [10, 90])
    return Viewpoints(
        gap=float(gaps[widest]),
        before=names[int(order[widest])],
        after=names[int(order[(widest + 1) % len(order)])],
        lowest=float(lowest),
        highest=float(highest),
    )
