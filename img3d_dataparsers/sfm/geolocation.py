# SPDX-License-Identifier: Apache-2.0
"""Metric scale and north direction of a reconstruction from the GPS positions of its photos."""

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
"""Smallest error in metres assumed for GPS positions, however well they happen to fit."""
MAX_SCALE_ERROR = 0.1
"""Largest relative standard deviation of a usable scale."""
MIN_POSITIONS = 4
"""Fewest different positions: with three, only one more than the scale needs, a wrong one could not be detected."""
ITERATIONS = 50
"""Iterations of reweighted least squares, which reduces the weight of outliers."""


@dataclass(frozen=True)
class GeoScale:
    """The georeference of a reconstruction."""

    metres_per_unit: float
    relative_error: float
    """Relative standard deviation of the scale."""
    turn: float
    """Counter-clockwise rotation in radians that brings x east and y north."""
    photos: int
    """Number of photos with a GPS position."""
    latitude: float
    """Latitude of the reconstruction's origin in degrees."""
    longitude: float
    """Longitude of the reconstruction's origin in degrees."""


def geo_scale(centres: FloatArray, positions: Sequence[GeoPosition | None]) -> GeoScale | None:
    """Scale and north direction by robust least squares on horizontal positions.

    Args:
        centres: Camera centres `[N, 3]`, z up.
        positions: GPS positions of the photos.

    Returns:
        None if there are too few positions, or they are too close together for their errors.
    """
    known = [i for i, position in enumerate(positions) if position is not None]
    places = [position for position in positions if position is not None]
    if len({(place.latitude, place.longitude) for place in places}) < MIN_POSITIONS:
        return None
    latitude, longitude = (float(np.median([getattr(place, of) for place in places])) for of in _ANGLES)
    on_earth = pycolmap.GPSTransform().ellipsoid_to_enu(
        np.array([[place.latitude, place.longitude, 0.0] for place in places]), latitude, longitude, 0.0
    )
    # As complex numbers: multiplying by one rotates and scales.
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
    """Robust fit of `there = factor * here + shift`; also returns the standard deviation of a coordinate.

    Args:
        here: Complex `[N]`.
        there: Complex `[N]`.
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
