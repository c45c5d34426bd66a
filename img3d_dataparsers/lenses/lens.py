# SPDX-License-Identifier: Apache-2.0
"""The projection of a lens, whatever its model and its field of view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray

EQUIRECTANGULAR = "EQUIRECTANGULAR"
OPENCV_FISHEYE = "OPENCV_FISHEYE"
THIN_PRISM_FISHEYE = "THIN_PRISM_FISHEYE"
PARAMETERS = {
    THIN_PRISM_FISHEYE: "fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 sx1 sy1",
    "RAD_TAN_THIN_PRISM_FISHEYE": "fl_x fl_y cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3",
    "FOV": "fl_x fl_y cx cy omega",
    "SIMPLE_DIVISION": "f cx cy k",
    "DIVISION": "fl_x fl_y cx cy k",
    "EUCM": "fl_x fl_y cx cy alpha beta",
}
"""COLMAP's camera models that OpenCV lacks: their parameters in COLMAP's order, by their keys in transforms.json (f is
fl_x and fl_y at once)."""
STEP = np.radians(0.25)
"""Steps in radians of the search for the largest angle to the optical axis that a lens sees."""
AZIMUTHS = 16
"""Number of directions around the optical axis in that search."""


@dataclass(frozen=True)
class Lens:
    """A camera model with its parameters, for photos of one size."""

    model: str
    """EQUIRECTANGULAR, OPENCV_FISHEYE, or a model of `PARAMETERS`."""
    parameters: tuple[float, ...]
    """In COLMAP's order and units. For EQUIRECTANGULAR instead Nerfstudio's fl_x, fl_y, cx, cy: half the width of a
    turn and the height of half a turn, and where the camera's forward direction is, all in pixels."""
    width: int
    height: int
    circle: float = np.inf
    """Radius in pixels of the image circle around the principal point, outside which photos are black."""

    @property
    def is_whole_sphere(self) -> bool:
        """Whether it is a panorama that shows everything, so that its left and right edges meet."""
        fx, fy, _, cy = self.parameters[:4]
        whole = abs(2 * fx - self.width) < 1 and abs(fy - self.height) < 1 and abs(2 * cy - self.height) < 1
        return self.model == EQUIRECTANGULAR and whole

    @property
    def focal_length(self) -> float:
        """Pixels per radian in the middle."""
        return self.parameters[0] / np.pi if self.model == EQUIRECTANGULAR else self.parameters[0]

    @property
    def principal_point(self) -> FloatArray:
        """The pixel `[2]` on the optical axis."""
        return self.projected(np.array([[0.0, 0.0, 1.0]]))[0]

    def pixels(self, rays: FloatArray) -> FloatArray:
        """Projects rays.

        Args:
            rays: `[N, 3]` of any length, OpenCV axes (x right, y down, z forward).

        Returns:
            Pixels `[N, 2]`, pixel centres at +0.5; NaN for rays that the lens does not see.
        """
        xy = self.projected(rays)
        if self.model != EQUIRECTANGULAR:
            angles = np.arctan2(np.hypot(rays[:, 0], rays[:, 1]), rays[:, 2])
            xy[angles > _largest_angle(self)] = np.nan
            outside = np.linalg.norm(xy - self.principal_point, axis=1) > self.circle
            xy[outside] = np.nan
        inside = (xy >= 0).all(axis=1) & (xy <= (self.width, self.height)).all(axis=1)
        return np.where(inside[:, None], xy, np.nan)

    def half_angles(self) -> FloatArray:
        """The largest angles `[4]` in radians to the optical axis that the lens sees: right, down, left and up."""
        angles = STEP * np.arange(round(np.pi / STEP))
        seen: list[float] = []
        for x, y in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)):
            rays = np.stack([x * np.sin(angles), y * np.sin(angles), np.cos(angles)], axis=1, dtype=np.float64)
            is_seen = np.isfinite(self.pixels(rays)).all(axis=1)
            seen.append(float(angles[-1] if is_seen.all() else angles[max(0, int(np.argmin(is_seen)) - 1)]))
        return np.array(seen)

    def _equirectangular(self, rays: FloatArray) -> FloatArray:
        fx, fy, cx, cy = self.parameters
        longitude = np.arctan2(rays[:, 0], rays[:, 2])
        latitude = np.arctan2(rays[:, 1], np.hypot(rays[:, 0], rays[:, 2]))
        x = cx + fx * longitude / np.pi
        if self.is_whole_sphere:
            x = x % self.width
        return np.stack([x, cy + fy * latitude / np.pi], axis=1)

    def projected(self, rays: FloatArray) -> FloatArray:
        """Pixels `[N, 2]` of rays `[N, 3]`, seen by the lens or not; NaN behind cameras of COLMAP's models."""
        if self.model == EQUIRECTANGULAR:
            return self._equirectangular(rays)
        if self.model == OPENCV_FISHEYE:
            fx, fy, cx, cy, k1, k2, k3, k4 = self.parameters
            p1 = p2 = sx1 = sy1 = 0.0
        elif self.model == THIN_PRISM_FISHEYE:
            fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1 = self.parameters
        else:
            return self._by_colmap(rays)
        # COLMAP projects z > 0 only; the models go on behind the camera, as lenses of 180 degrees and more do.
        radius = np.hypot(rays[:, 0], rays[:, 1])
        angle = np.arctan2(radius, rays[:, 2])
        u, v = (angle / np.maximum(radius, 1e-12) * rays[:, axis] for axis in (0, 1))
        r2 = angle**2
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
        x = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u**2) + sx1 * r2
        y = v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v**2) + sy1 * r2
        return np.stack([cx + fx * x, cy + fy * y], axis=1)

    def _by_colmap(self, rays: FloatArray) -> FloatArray:
        # Imported late: few data sets need it.
        from img3d_dataparsers.sfm.colmap_library import pycolmap

        camera: Any = pycolmap.Camera(model=self.model, width=self.width, height=self.height, params=self.parameters)
        ahead = rays[:, 2] > 1e-9
        pixels = np.full((len(rays), 2), np.nan)
        pixels[ahead] = camera.img_from_cam(rays[ahead])
        return pixels


@lru_cache(maxsize=64)
def _largest_angle(lens: Lens) -> float:
    """The angle in radians to the optical axis up to which pixels move outward in every direction.

    Beyond it, the polynomials of a calibration turn back and would show the same pixels twice.
    """
    angles = np.arange(STEP, np.pi, STEP)
    azimuths = 2 * np.pi * np.arange(AZIMUTHS) / AZIMUTHS
    angle, azimuth = (grid.ravel() for grid in np.meshgrid(angles, azimuths, indexing="ij"))
    x, y = np.sin(angle) * np.cos(azimuth), np.sin(angle) * np.sin(azimuth)
    rays = np.stack([x, y, np.cos(angle)], axis=1, dtype=np.float64)
    radii = np.linalg.norm(lens.projected(rays) - lens.principal_point, axis=1).reshape(len(angles), AZIMUTHS)
    grows = (np.diff(radii, axis=0, prepend=0) > 0).all(axis=1)  # False for NaN too
    return float(np.pi if grows.all() else angles[int(np.argmin(grows))] - STEP)
