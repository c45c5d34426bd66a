# SPDX-License-Identifier: Apache-2.0
"""Which way is up in a reconstruction: by its ground, by how level the photos are, by the sensors of the cameras.

People hold cameras level: the horizontal axis of a photo is at right angles to up, whichever way it looks. That tells
up where the photos look in different directions. Where they look the same way, they leave the tilt open, which the
ground (or the table) then tells. The accelerometer of a phone or the gimbal of a drone knows it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray

ROLL, TILT = 4.0, 25.0
"""Degrees by which photos are held askew sideways, and by which they look up or down, typically."""
LOOKING_DOWN = 0.3
"""Length of the mean of the photos' own up below which they contradict each other: a drone's, straight down, on its way
to and fro. Up is then where they look from."""
ITERATIONS = 20
"""Of reweighting, in which photos that were held upright where others were held across lose their say."""
SENSOR_SPREAD = 10.0
"""Degrees by which sensors may disagree; if it is more, the tags mean something else."""
MAX_ASKEW = 30.0
"""Degrees by which photos that people look at upright are held askew."""
SENSOR_TOLERANCE = 5.0
"""Degrees between a sensor's up and that of the ground."""
MIN_SENSORS = 3
"""Photos with a sensor's word."""
MIN_TOLERANCE, MAX_TOLERANCE = 4.0, 35.0
"""Degrees that a plane may be off the photos' own up to count as ground: three standard deviations, within these."""
TRIALS = 3000
"""Planes through three points that are tried."""
MAX_POINTS = 4000
"""Of which that many points are counted."""
THICKNESS = 0.01
"""Distance of points from their plane, in the points' extent or, if that is less, their distance from the cameras."""
MIN_GROUND = 0.1
"""Share of the points that a ground holds at least; without one, the level of the photos decides."""
MAX_CAMERAS_BELOW, MAX_BELOW = 0.1, 0.35
"""Shares of the cameras and of the points that may lie below it: the ground may be a table in a room."""
DISTINCT = 2.0
"""Times as many points as in layers of that thickness beside it or at an angle to it."""


@dataclass(frozen=True)
class Upright:
    """Which way is up, and where the ground is."""

    up: FloatArray
    """`[3]`, of length 1."""
    ground: float | None
    """Height of the ground: the product of `up` and its points; None if there is no ground."""
    source: str
    """What told it, for the user."""


def find_upright(camera_to_worlds: FloatArray, points: FloatArray, sensed: Sequence[FloatArray | None]) -> Upright:
    """Finds up.

    Args:
        camera_to_worlds: of photos as people look at them, `[N, 4, 4]`, OpenGL axes.
        points: of the reconstruction, `[P, 3]`.
        sensed: up in each camera's own axes `[3]`, as a sensor has it, or None.
    """
    up, deviation = _level(camera_to_worlds)
    source = "the level of the photos"
    by_sensors = _by_sensors(camera_to_worlds, sensed)
    if by_sensors is not None:
        up, tolerance, source = by_sensors, SENSOR_TOLERANCE, "the cameras' sensors"
    else:
        tolerance = float(np.clip(3 * deviation, MIN_TOLERANCE, MAX_TOLERANCE))
    ground = _ground(camera_to_worlds[:, :3, 3], points, up, tolerance)
    if ground is None:
        return Upright(up, None, source)
    normal, height, share = ground
    if by_sensors is not None:
        return Upright(up, height, source)
    return Upright(normal, height, f"its ground plane ({share:.0%} of the points)")


def _level(camera_to_worlds: FloatArray) -> tuple[FloatArray, float]:
    """Up as the photos' level has it, and its standard deviation in degrees where it is known least."""
    right, up, back = (camera_to_worlds[:, :3, axis] for axis in range(3))
    mean = up.mean(axis=0)
    if np.linalg.norm(mean) < LOOKING_DOWN:
        mean = back.mean(axis=0)
    mean = _unit(mean) if np.linalg.norm(mean) > 0 else up[0]
    roll, tilt = np.radians([ROLL, TILT])
    prior = (np.eye(3) - np.outer(mean, mean)) / tilt**2
    best, certainty = mean, 0.0
    for _ in range(ITERATIONS):
        weights = 1 / (1 + (right @ best / roll) ** 2)
        values, vectors = np.linalg.eigh(np.einsum("n,ni,nj->ij", weights, right, right) / roll**2 + prior)
        best = vectors[:, 0] * float(np.sign(vectors[:, 0] @ mean))
        certainty = float(values[1])
    return best, float(np.degrees(1 / np.sqrt(certainty)))


def _by_sensors(camera_to_worlds: FloatArray, sensed: Sequence[FloatArray | None]) -> FloatArray | None:
    """Up as the sensors have it; None where they are too few or contradict each other or the photos."""
    ups = [pose[:3, :3] @ up for pose, up in zip(camera_to_worlds, sensed, strict=True) if up is not None]
    if len(ups) < max(MIN_SENSORS, len(camera_to_worlds) / 2):
        return None
    median = _unit(np.median(ups, axis=0))
    spread = np.degrees(np.arccos(np.clip(np.array(ups) @ median, -1, 1)))
    askew = np.degrees(np.arcsin(np.clip(np.abs(camera_to_worlds[:, :3, 0] @ median), 0, 1)))
    if np.median(spread) > SENSOR_SPREAD or np.median(askew) > MAX_ASKEW:
        return None
    return _unit(np.array(ups)[spread <= 3 * max(1.0, float(np.median(spread)))].mean(axis=0))


def _ground(
    centres: FloatArray, points: FloatArray, up: FloatArray, tolerance: float
) -> tuple[FloatArray, float, float] | None:
    """The plane near the right angle to `up` that holds most points and has the cameras above it.

    Returns:
        its normal `[3]`, its height along it, and the share of the points on it; None if there is no such plane.
    """
    if len(points) < 3 / MIN_GROUND:
        return None
    rng = np.random.default_rng(0)
    if len(points) > MAX_POINTS:
        points = points[rng.choice(len(points), MAX_POINTS, replace=False)]
    distance = float(np.median(np.linalg.norm(points - np.median(centres, axis=0), axis=1)))
    extent = float(np.linalg.norm(np.ptp(np.percentile(points, [10, 90], axis=0), axis=0)))
    thickness = THICKNESS * min(distance, extent)
    corners = points[rng.integers(len(points), size=(TRIALS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.where(lengths > 0, lengths, 1) * np.sign(normals @ up)[:, None]
    near = normals @ up > np.cos(np.radians(tolerance))
    best: tuple[FloatArray, float] | None = None
    most = 0
    for normal, corner in zip(normals[near], corners[near, 0], strict=True):
        height = float(normal @ corner)
        on_plane = int((np.abs(points @ normal - height) < thickness).sum())
        if on_plane > most and _is_below(normal, height - thickness, centres, points):
            best, most = (normal, height), on_plane
    if best is None:
        return None
    normal, height = _fitted(points, *best, thickness)
    share = float((np.abs(points @ normal - height) < thickness).mean())
    is_near = abs(float(normal @ up)) > np.cos(np.radians(tolerance))
    if share < MIN_GROUND or not is_near or not _is_distinct(points, normal, height, thickness, share):
        return None
    sign = float(np.sign(normal @ up))
    return sign * normal, sign * height, share


def _fitted(points: FloatArray, normal: FloatArray, height: float, thickness: float) -> tuple[FloatArray, float]:
    """The plane through the middle of the points near it."""
    for _ in range(5):
        of_plane = points[np.abs(points @ normal - height) < thickness]
        centre = of_plane.mean(axis=0)
        normal = np.linalg.eigh((of_plane - centre).T @ (of_plane - centre))[1][:, 0]
        height = float(normal @ centre)
    return normal, height


def _is_below(normal: FloatArray, height: float, centres: FloatArray, points: FloatArray) -> bool:
    """Whether the cameras and most points are above a height."""
    cameras_below, points_below = (centres @ normal < height).mean(), (points @ normal < height).mean()
    return bool(cameras_below < MAX_CAMERAS_BELOW and points_below < MAX_BELOW)


def _is_distinct(points: FloatArray, normal: FloatArray, height: float, thickness: float, share: float) -> bool:
    """Whether the points lie in a plane rather than all about."""

    def share_of(other: FloatArray, through: FloatArray) -> float:
        return float((np.abs((points - through) @ other) < thickness).mean())

    centre = np.median(points[np.abs(points @ normal - height) < thickness], axis=0)
    aside = _unit(np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))]))
    turned = [_unit(normal + side) for side in (aside, -aside, np.cross(normal, aside), np.cross(aside, normal))]
    beside = [centre + distance * thickness * normal for distance in (-6, -3, 3, 6)]
    others = [share_of(other, centre) for other in turned] + [share_of(normal, through) for through in beside]
    return share > DISTINCT * float(np.mean(others))


def _unit(vector: FloatArray) -> FloatArray:
    return vector / np.linalg.norm(vector)
