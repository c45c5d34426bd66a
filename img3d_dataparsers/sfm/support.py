# SPDX-License-Identifier: Apache-2.0
"""How well a reconstruction's cameras are supported: the points that each photo sees, and the angles between rays.

Mappers also return unsupported cameras: if a camera only turned on the spot, all photos match, and their positions are
noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.colmap_library import pycolmap

MIN_POINTS = 20
"""Fewest points that a photo must see for a reliable pose. COLMAP's incremental mapper registers photos from 30 on, of
which bundle adjustment drops some; photos of 400 x 300 pixels that overlap well see more than 140."""
WEAK, WEAK_POINTS = 0.25, 50
"""A photo is weak if it sees less than this share of the median number of points, and fewer points than this."""
MIN_PARALLAX = 1.8
"""Smallest median parallax in degrees. If the camera only turns, wrong matches give points around COLMAP's minimum of
1.5; moving a phone sideways by an arm's length in front of a flower gives 4, walking around an object 10 and more."""
MIN_PHOTOS = 3
"""Fewest supported photos: two views do not determine the depth of most points."""
MIN_SHARE = 0.25
"""Smallest share of supported photos: fewer are probably not the intended scene."""
ONE_PLACE = 0.8
"""Share of pairs related by a homography from which on all photos are taken to be from one place."""
HOMOGRAPHIES = (
    *(pycolmap.TwoViewGeometryConfiguration.PLANAR, pycolmap.TwoViewGeometryConfiguration.PANORAMIC),
    pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
)
"""COLMAP's classes of pairs that a homography relates: of something flat, or from the same place."""


@dataclass(frozen=True)
class Support:
    """The support of a reconstruction's cameras."""

    points_per_photo: dict[int, int]
    """Number of points that each registered photo sees, by image id."""
    parallax: float
    """Median over the points of the largest angle between two rays, in degrees; 0 without points."""
    points: int
    """Number of points."""

    @property
    def supported(self) -> int:
        """Number of photos that see enough points."""
        return sum(count >= MIN_POINTS for count in self.points_per_photo.values())

    @property
    def weakest(self) -> list[int]:
        """Image ids of photos that see far fewer points than others."""
        few = WEAK * float(np.median(list(self.points_per_photo.values()) or [0]))
        return [image_id for image_id, count in self.points_per_photo.items() if count < min(few, WEAK_POINTS)]

    @property
    def has_parallax(self) -> bool:
        """Whether the parallax is large enough to determine depth."""
        return self.parallax >= MIN_PARALLAX

    @property
    def strength(self) -> tuple[int, int]:
        """Key by which reconstructions of the same photos are compared."""
        return (self.supported, self.points) if self.has_parallax else (0, self.points)


NO_SUPPORT = Support(points_per_photo={}, parallax=0.0, points=0)
"""The support without any reconstruction."""


def support_of(model: pycolmap.Reconstruction) -> Support:
    """Computes the support of a reconstruction's cameras."""
    return Support(
        points_per_photo={image_id: model.images[image_id].num_points3D for image_id in model.reg_image_ids()},
        parallax=float(np.median(parallaxes(model))) if model.num_points3D() else 0.0,
        points=model.num_points3D(),
    )


def parallaxes(model: pycolmap.Reconstruction) -> FloatArray:
    """The largest angle in degrees between two rays of each point, `[P]`."""
    centres = {image_id: model.images[image_id].projection_center() for image_id in model.reg_image_ids()}
    angles = []
    for point in model.points3D.values():
        rays = np.array([centres[element.image_id] for element in point.track.elements]) - point.xyz
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        angles.append(_largest_angle(rays))
    return np.array(angles)


def _largest_angle(rays: FloatArray) -> float:
    return float(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1.0, 1.0))))


def is_homography(geometry: pycolmap.TwoViewGeometry) -> bool:
    """Whether two photos may be of something flat or from the same place, and so do not determine depth."""
    return pycolmap.TwoViewGeometryConfiguration(geometry.config) in HOMOGRAPHIES


def why_refused(support: Support, count: int, related: int, homographies: int) -> str | None:
    """Why a reconstruction is refused, and how to photograph instead; None if it is not.

    Args:
        support: The support of its cameras.
        count: Number of photos.
        related: Number of pairs of photos that show the same place.
        homographies: Number of these that are related by a homography.
    """
    from_one_place = related >= count - 1 and homographies >= ONE_PLACE * related
    enough = max(MIN_PHOTOS, MIN_SHARE * count)
    if not support.has_parallax and (from_one_place or support.supported >= enough):
        return (
            f"the {count} photos fit together, but were all taken from one place: the camera turned on the spot or "
            "hardly moved, so depth cannot be determined. Walk around the subject instead: before each photo take a "
            "step to the side, and keep most of what the photo before shows in view"
        )
    if support.supported < enough or not support.has_parallax:
        placed = (
            f"only {support.supported} of the {count} photos could be placed, as they share too few points"
            if support.supported
            else f"none of the {count} photos could be placed: they share too little"
        )
        return (
            f"{placed}. Take more photos in between, each a small step further and sharing most of its view with the "
            "one before"
        )
    return None
