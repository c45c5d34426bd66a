# SPDX-License-Identifier: Apache-2.0
"""The up direction of a reconstruction: from its ground plane, the level of the photos, and the cameras' sensors.

People hold cameras level: the horizontal axis of a photo is perpendicular to up, whichever way it looks. That
determines up if the photos look in different directions. If they look in the same direction, the tilt remains
undetermined, and the ground (or a table) decides. A phone's accelerometer or a drone's gimbal measures up directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray

ROLL, TILT = 4.0, 25.0
"""Typical roll and pitch of hand-held photos in degrees (standard deviations)."""
LOOKING_DOWN = 0.3
"""If the mean of the photos' up vectors is shorter than this, they contradict each other, as in a drone's photos
straight down on its way back and forth. Up is then opposite to the viewing direction."""
ITERATIONS = 20
"""Iterations of reweighting, which reduces the weight of photos that were held in portrait among landscape ones."""
SENSOR_SPREAD = 10.0
"""Largest disagreement of the sensors in degrees; if it is larger, the tags mean something else."""
MAX_ASKEW = 30.0
"""Largest plausible roll of upright photos in degrees."""
SENSOR_TOLERANCE = 5.0
"""Largest angle in degrees between the sensors' up and the ground's normal."""
MIN_SENSORS = 3
"""Fewest photos with sensor data."""
MIN_TOLERANCE, MAX_TOLERANCE = 4.0, 35.0
"""Bounds in degrees of the tolerance for the angle between a ground plane's normal and the photos' up, which is three
standard deviations."""
TRIALS = 3000
"""Number of planes through three points that are tried."""
MAX_POINTS = 4000
"""Number of points with which planes are tested."""
THICKNESS = 0.01
"""Largest distance of points from their plane, relative to the points' extent or, if smaller, to their distance from
the cameras."""
MIN_GROUND = 0.1
"""Smallest share of the points on the ground plane; without one, the level of the photos decides."""
MAX_CAMERAS_BELOW, MAX_BELOW = 0.1, 0.35
"""Largest shares of the cameras and of the points below the ground, which may be a table in a room."""
DISTINCT = 2.0
"""Smallest ratio of the points on the ground to those in layers of the same thickness beside it or at an angle."""


@dataclass(frozen=True)
class Upright:
    """The up direction, and the ground."""

    up: FloatArray
    """Unit vector `[3]`."""
    ground: float | None
    """Height of the ground, the dot product of `up` with its points; None if no ground was found."""
    source: str
    """How up was found, for the user."""


def find_upright(camera_to_worlds: FloatArray, points: FloatArray, sensed: Sequence[FloatArray | None]) -> Upright:
    """Finds the up direction and the ground.

    Args:
        camera_to_worlds: Poses of the upright photos, `[N, 4, 4]`, OpenGL axes.
        points: Points of the reconstruction, `[P, 3]`.
        sensed: Up by a sensor in each camera's own axes `[3]`, or None.
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
    """Up by the level of the photos, and its largest standard deviation in degrees over all directions."""
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
    """Up by the sensors; None if they are too few, or contradict each other or the photos."""
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
    """The plane roughly perpendicular to `up` that contains most points and has the cameras above it.

    Returns:
        Its normal `[3]`, its height along the normal, and the share of the points on it; None if there is no such
        plane.
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
    """Refits a plane to the points near it by least squares."""
    for _ in range(5):
        of_plane = points[np.abs(points @ normal - height) < thickness]
        centre = of_plane.mean(axis=0)
        normal = np.linalg.eigh((of_plane - centre).T @ (of_plane - centre))[1][:, 0]
        height = float(normal @ centre)
    return normal, height


def _is_below(normal: FloatArray, height: float, centres: FloatArray, points: FloatArray) -> bool:
    """Whether nearly all cameras and most points are above a height."""
    cameras_below, points_below = (centres @ normal < height).mean(), (points @ normal < height).mean()
    return bool(cameras_below < MAX_CAMERAS_BELOW and points_below < MAX_BELOW)


def _is_distinct(points: FloatArray, normal: FloatArray, height: float, thickness: float, share: float) -> bool:
    """Whether the points form a plane rather than fill the space around it."""

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
