# SPDX-License-Identifier: Apache-2.0
"""Determining the unit of depth maps, which files do not state, from points triangulated from a few of the photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from nerfstudio.cameras.cameras import Cameras

from img3d_dataparsers.images.undistortion import pixels_of_rays
from img3d_dataparsers.posed_photos import FloatArray

USUAL = {True: 1e-3, False: 1.0}
"""Usual metres per unit of depth, of maps with integers (True) and with floats (False)."""
KNOWN_UNITS = (1.0, 1e-2, 1e-3, 1e-4, 1 / 5000, 1 / 256)
"""Metres, centimetres, millimetres, tenths of millimetres; TUM's RGB-D cameras, KITTI's laser scanner."""
SNAP = 0.03
"""Largest relative difference at which a measured unit is replaced by a known one."""
PHOTOS, GROUPS = 12, (0.5, 0.2, 0.8)
"""Number of neighbouring photos that points are triangulated from, and the positions in the sequence around which they
are chosen, tried in turn until there are enough points."""
MIN_DEPTHS = 40
"""Fewest depths at triangulated points for a measurement."""
SPREAD, AGREEING = 0.1, 0.35
"""Largest relative difference between a depth and that of its point, and the smallest share of depths within it: some
points are occluded, some maps are rough."""


@dataclass(frozen=True)
class Seen:
    """One photo's depth map with its camera, in the map's own unit."""

    origin: FloatArray
    """`[3]`, the camera's position."""
    camera: Cameras
    """`[]`, at any size."""
    world_to_camera: FloatArray
    """`[3, 3]`, OpenCV camera axes."""
    vectors: FloatArray
    """`[P, 3]`, from the camera to surfaces, world axes."""
    depth: FloatArray
    """`[H, W]`, 0 where unknown; may be subsampled."""

    def ratios(self, points: FloatArray) -> FloatArray:
        """Depths of those points `[P, 3]` that are in view, divided by the map's depths there, `[R]`."""
        x, y, z = self.world_to_camera @ (points - self.origin).T
        ahead = z > 0
        rays = np.stack([x[ahead], y[ahead]], axis=1) / z[ahead, None]
        height, width = self.depth.shape
        scale = [width / self.camera.width.item(), height / self.camera.height.item()]
        columns, rows = np.floor(pixels_of_rays(self.camera, rays) * scale).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        depth = self.depth[rows[inside].astype(int), columns[inside].astype(int)]
        return z[ahead][inside][depth > 0] / depth[depth > 0]


@dataclass(frozen=True)
class Unit:
    """The unit of depth maps."""

    size: float
    """Length of a unit of depth, in units of the poses."""
    agreeing: float | None
    """Share of the depths at triangulated points that agree with it; None if there are too few."""

    @property
    def is_right(self) -> bool:
        """Whether the points do not contradict it; for relative depth they contradict every unit."""
        return self.agreeing is None or self.agreeing >= AGREEING


def unit_of(
    seen: Sequence[Seen],
    triangulated: Callable[[list[int]], FloatArray],
    usual: float,
    given: float | None,
    scale: float,
) -> Unit:
    """Determines the unit of depth maps.

    Args:
        seen: The depth maps, all of integers or all of floats.
        triangulated: Returns points `[P, 3]` triangulated from the photos with these indices into `seen`, in the poses'
            world.
        usual: The unit, in units of the poses, if nothing else determines it.
        given: The unit that the data set declares; another one is used only if the points contradict it.
        scale: Units of the poses per metre, if the data set declares it; else 1.
    """
    for group in _groups(seen):
        points = triangulated(group)
        ratios = np.concatenate([seen[i].ratios(points) for i in group])
        if len(ratios) < MIN_DEPTHS:
            continue
        measured = _most_common(ratios)
        for known in KNOWN_UNITS:
            if abs(np.log(measured / (known * scale))) < SNAP:
                measured = known * scale
        sizes = (measured,) if given is None else (given, measured)
        units = [Unit(size, float((np.abs(ratios / size - 1) < SPREAD).mean())) for size in sizes]
        return next((unit for unit in units if unit.is_right), units[0])
    return Unit(usual if given is None else given, None)


def _most_common(ratios: FloatArray) -> float:
    """The median of the densest range of ratios. Many points are occluded, so the overall median would be wrong."""
    logs = np.sort(np.log(ratios))
    last = np.searchsorted(logs, logs + SPREAD, side="right")
    first = int((last - np.arange(len(logs))).argmax())
    return float(np.exp(np.median(logs[first : last[first]])))


def _groups(seen: Sequence[Seen]) -> Iterator[list[int]]:
    """Indices of neighbouring photos, around several positions."""
    origins = np.stack([each.origin for each in seen])
    for place in GROUPS:
        middle = origins[round(place * (len(seen) - 1))]
        nearest = np.argsort(np.linalg.norm(origins - middle, axis=1), kind="stable")[:PHOTOS]
        yield sorted(nearest.tolist())
        if len(seen) <= PHOTOS:
            return
