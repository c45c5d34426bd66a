# SPDX-License-Identifier: Apache-2.0
"""In what unit depth maps are: no file says so, but points triangulated from a few of the photos do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from nerfstudio.cameras.cameras import Cameras

from img3d_dataparsers.images.undistortion import pixels_of_rays
from img3d_dataparsers.posed_photos import FloatArray

USUAL = {True: 1e-3, False: 1.0}
"""Metres in a depth of 1, of maps with whole numbers and with floats."""
KNOWN_UNITS = (1.0, 1e-2, 1e-3, 1e-4, 1 / 5000, 1 / 256)
"""Metres, centimetres, millimetres, tenths of them; of TUM's RGB-D cameras, of KITTI's laser."""
SNAP = 0.03
"""How far a measured unit may be from a known one that is meant."""
PHOTOS, GROUPS = 12, (0.5, 0.2, 0.8)
"""Neighbouring photos that points are triangulated from, and where in their order, one after the other until some are
found."""
ENOUGH = 40
"""Depths at triangulated points to tell anything."""
SPREAD, AGREEING = 0.1, 0.35
"""How far a depth may be from that of its point, and the share of them that is no farther if they are depths: some
points are hidden in a photo, some maps are rough."""


@dataclass(frozen=True)
class Seen:
    """What one photo's depth map says, in the map's own unit."""

    origin: FloatArray
    """`[3]`: the camera."""
    camera: Cameras
    """`[]`, at any size."""
    world_to_camera: FloatArray
    """`[3, 3]`, OpenCV camera axes."""
    vectors: FloatArray
    """`[P, 3]` from the camera to surfaces, world axes."""
    depth: FloatArray
    """`[H, W]`, 0 where unknown; may be reduced, nearest pixels."""

    def ratios(self, points: FloatArray) -> FloatArray:
        """How many times as far away as the depth map has them points `[P, 3]` in view are, `[R]`."""
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
    """How long a depth of 1 is."""

    size: float
    """In units of the poses."""
    agreeing: float | None
    """Share of the depths at triangulated points that are right with it; None if there are too few to tell."""

    @property
    def is_right(self) -> bool:
        """Unless the points contradict it, as they contradict any unit of relative depth."""
        return self.agreeing is None or self.agreeing >= AGREEING


def unit_of(
    seen: Sequence[Seen],
    triangulated: Callable[[list[int]], FloatArray],
    usual: float,
    given: float | None,
    scale: float,
) -> Unit:
    """The unit that depth maps are in.

    Args:
        seen: of each photo that has a depth map, all of one kind.
        triangulated: points `[P, 3]` from the photos of these indices into `seen`, in the poses' world.
        usual: units of the poses in a depth of 1, where nothing else tells.
        given: the same, where the data set says it; another one is taken only if the points contradict it.
        scale: units of the poses in a metre, as far as the data set says so.
    """
    for group in _groups(seen):
        points = triangulated(group)
        ratios = np.concatenate([seen[i].ratios(points) for i in group])
        if len(ratios) < ENOUGH:
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
    """The middle of where they are densest: many points are hidden in a photo by what lies before them."""
    logs = np.sort(np.log(ratios))
    last = np.searchsorted(logs, logs + SPREAD, side="right")
    first = int((last - np.arange(len(logs))).argmax())
    return float(np.exp(np.median(logs[first : last[first]])))


def _groups(seen: Sequence[Seen]) -> Iterator[list[int]]:
    """Indices of neighbouring photos, from several places."""
    origins = np.stack([each.origin for each in seen])
    for place in GROUPS:
        middle = origins[round(place * (len(seen) - 1))]
        nearest = np.argsort(np.linalg.norm(origins - middle, axis=1), kind="stable")[:PHOTOS]
        yield sorted(nearest.tolist())
        if len(seen) <= PHOTOS:
            return
