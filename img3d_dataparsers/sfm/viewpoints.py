# SPDX-License-Identifier: Apache-2.0
"""From which sides photos look at what they are all of, and from which no photo does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray

IN_VIEW = 25.0
"""Degrees between a photo's viewing direction and what it is of."""
MOST = 0.8
"""Share of the photos that have to be of one thing."""


@dataclass(frozen=True)
class Viewpoints:
    """From which sides photos look at one thing."""

    gap: float
    """Degrees, as seen from that thing: the widest sector without a photo."""
    before: str
    """Name of the photo at its one side."""
    after: str
    """Name of the photo at its other side."""
    lowest: float
    """Degrees above the horizon, from which the lowest tenth of the photos look."""
    highest: float
    """Degrees above the horizon, from which the highest tenth of the photos look."""


def viewpoints_of(names: Sequence[str], camera_to_worlds: FloatArray) -> Viewpoints | None:
    """Looks for the one thing that the photos are of; None where they are not of one thing, as in a room or a street.

    Args:
        names: of the photos.
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
    if (cosines > np.cos(np.radians(IN_VIEW))).mean() < MOST:
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
