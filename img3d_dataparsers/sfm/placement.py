# SPDX-License-Identifier: Apache-2.0
"""Placing a reconstruction in a world with z up and the origin on the ground, in metres if the scale is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.geolocation import GeoScale, geo_scale
from img3d_dataparsers.sfm.photo_sensors import GeoPosition, UpVector
from img3d_dataparsers.sfm.upright import Upright, find_upright

UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Placement:
    """The transform from the mapping's arbitrary world to one with z up and the origin on the ground amid the points.

    With GPS, x is east and y is north; otherwise the first photo looks along y.
    """

    rotation: FloatArray
    """`[3, 3]`, applied first."""
    scale: float
    """Applied second; metres per unit with GPS, else 1."""
    shift: FloatArray
    """`[3]`, applied last."""
    upright: Upright
    """The up direction and ground."""
    geo: GeoScale | None
    """The georeference; None without GPS."""

    def points(self, xyz: FloatArray) -> FloatArray:
        """Transforms points `[P, 3]`."""
        return self.scale * xyz @ self.rotation.T + self.shift

    def pose(self, camera_to_world: FloatArray) -> FloatArray:
        """Transforms a camera's pose `[4, 4]`."""
        placed = camera_to_world.copy()
        placed[:3, :3] = self.rotation @ camera_to_world[:3, :3]
        placed[:3, 3] = self.points(camera_to_world[None, :3, 3])[0]
        return placed

    @property
    def scale_source(self) -> str | None:
        """Why a unit is a metre, for the user; None if it is not known to be."""
        if self.geo is None:
            return None
        return (
            f"the GPS positions of {self.geo.photos} photos (± {self.geo.relative_error:.0%}; origin at "
            f"{self.geo.latitude:.6f}, {self.geo.longitude:.6f})"
        )


def placement_of(
    camera_to_worlds: FloatArray,
    points: FloatArray,
    sensed: Sequence[UpVector | None],
    positions: Sequence[GeoPosition | None],
) -> Placement:
    """Finds up, north and the scale.

    Args:
        camera_to_worlds: Poses of the upright photos, `[N, 4, 4]`, OpenGL axes.
        points: Points of the reconstruction, `[P, 3]`.
        sensed: Up by a sensor in each camera's own axes, or None.
        positions: GPS positions of the photos, or None.
    """
    upright = find_upright(camera_to_worlds, points, [None if up is None else np.array(up) for up in sensed])
    rotation = Rotation.align_vectors(UP[None], upright.up[None])[0].as_matrix()
    forward = rotation @ -camera_to_worlds[0, :3, 2]
    rotation = _about_up(np.pi / 2 - np.arctan2(forward[1], forward[0])) @ rotation
    turned = points @ rotation.T
    origin = np.median(turned, axis=0)
    if upright.ground is not None:
        origin[2] = upright.ground
    geo = geo_scale(camera_to_worlds[:, :3, 3] @ rotation.T - origin, positions)
    if geo is None:
        return Placement(rotation, 1.0, -origin, upright, None)
    north = _about_up(geo.turn)
    return Placement(north @ rotation, geo.metres_per_unit, -geo.metres_per_unit * north @ origin, upright, geo)


def _about_up(angle: float) -> FloatArray:
    return Rotation.from_rotvec(angle * UP).as_matrix()
