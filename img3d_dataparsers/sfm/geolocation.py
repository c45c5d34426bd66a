# SPDX-License-Identifier: Apache-2.0
"""The metric scale of a reconstruction, and where north is in it, from the GPS positions of its photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.photo_sensors import GeoPosition

ComplexArray = npt.NDArray[np.complex128]

MIN_ERROR = 0.5
"""Metres that GPS positions are off at least, from photo to photo, however well they happen to fit."""
MAX_SCALE_ERROR = 0.1
"""Standard deviation of the scale up to which it is worth something."""
MIN_POSITIONS = 4
"""Different ones; of three, only one more than the scale needs, none can be told to be wrong."""
ITERATIONS = 50
"""Of reweighting, in which positions that are far off lose their say."""


@dataclass(frozen=True)
class GeoScale:
    """How a reconstruction lies on Earth."""

    metres_per_unit: float
    relative_error: float
    """Standard deviation of the scale, as a share of it."""
    turn: float
    """Radians, counter-clockwise, that bring x east and y north."""
    photos: int
    """How many told."""
    latitude: float
    """Of the reconstruction's origin."""
    longitude: float
    """Of the reconstruction's origin."""


def geo_scale(centres: FloatArray, positions: Sequence[GeoPosition | None]) -> GeoScale | None:
    """Scale and north, by the least squares of horizontal positions.

    Args:
        centres: of the cameras, `[N, 3]`, z up.
        positions: where the photos say that they were taken.

    Returns:
        None where the positions are too few, or too close together for how well they fit.
    """
    known = [i for i, position in enumerate(positions) if position is not None]
    places = [position for position in positions if position is not None]
    if len({(place.latitude, place.longitude) for place in places}) < MIN_POSITIONS:
        return None
    latitude, longitude = (float(np.median([getattr(place, of) for place in places])) for of in _ANGLES)
    on_earth = pycolmap.GPSTransform().ellipsoid_to_enu(
        np.array([[place.latitude, place.longitude, 0.0] for place in places]), latitude, longitude, 0.0
    )
    # Complex numbers: multiplying by one turns and scales.
    here, there = (xy[:, 0] + 1j * xy[:, 1] for xy in (centres[known], on_earth))
    factor, shift, error = _fitted(here, there)
    if abs(factor) == 0:
        return None
    spread = abs(factor) * float(np.sqrt((np.abs(here - here.mean()) ** 2).sum()))
    relative_error = max(error, MIN_ERROR) / spread
    if relative_error > MAX_SCALE_ERROR:
        return None
    origin = pycolmap.GPSTransform().enu_to_ellipsoid(
        np.array([[shift.real, shift.imag, 0.0]]), latitude, longitude, 0.0
    )[0]
    return GeoScale(
        metres_per_unit=abs(factor),
        relative_error=relative_error,
        turn=float(np.angle(factor)),
        photos=len(places),
        latitude=float(origin[0]),
        longitude=float(origin[1]),
    )


_ANGLES = ("latitude", "longitude")


def _fitted(here: ComplexArray, there: ComplexArray) -> tuple[complex, complex, float]:
    """Factor and shift with `there = factor * here + shift`, and the error of a coordinate; outliers lose their say.

    Args:
        here: complex `[N]`.
        there: complex `[N]`.
    """
    weights = np.ones(len(here))
    factor, shift, error = 0j, 0j, 0.0
    for _ in range(ITERATIONS):
        mean_here, mean_there = (complex(np.average(values, weights=weights)) for values in (here, there))
        x, y = here - mean_here, there - mean_there
        power = float((weights * np.abs(x) ** 2).sum())
        factor = complex((weights * x.conj() * y).sum()) / power if power > 0 else 0j
        shift = mean_there - factor * mean_here
        residuals = np.abs(y - factor * x)
        error = float(np.median(residuals)) / 1.18  # of one coordinate: the median of Rayleigh's distribution
        weights = 1 / (1 + (residuals / (3 * max(error, MIN_ERROR))) ** 2) ** 2
    return factor, shift, error
