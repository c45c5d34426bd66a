# SPDX-License-Identifier: Apache-2.0
"""What the cameras of a reconstruction rest on: the points that each photo sees, and the angles they are seen at.

Mappers also return cameras that rest on nothing: where a camera only turned on the spot, all photos fit together, and
the places that they are given are noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.colmap_library import pycolmap

MIN_POINTS = 20
"""That a photo has to see for its pose to be worth something. COLMAP's incremental mapper registers photos from 30 on,
of which a bundle adjustment drops some; photos of 400 x 300 pixels that overlap well see more than 140."""
WEAK, WEAK_POINTS = 0.25, 50
"""A photo is weak that sees less than this share of what the median photo sees, and fewer points than that."""
MIN_PARALLAX = 1.8
"""Degrees, the median of all points. Where the camera only turns, wrong matches leave points around COLMAP's minimum of
1.5; a phone that is moved sideways by an arm's length before a flower gives 4, a walk around an object 10 and more."""
MIN_PHOTOS = 3
"""With poses that rest on something. Two views leave the depth of most points to chance."""
MIN_SHARE = 0.25
"""Of the photos that must have such poses: fewer are not the scene that was meant."""
ONE_PLACE = 0.8
"""Share of the pairs whose photos differ by a homography, from which on all were taken from one place."""
HOMOGRAPHIES = (
    *(pycolmap.TwoViewGeometryConfiguration.PLANAR, pycolmap.TwoViewGeometryConfiguration.PANORAMIC),
    pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
)
"""What COLMAP calls two photos between which a homography leads: of something flat, or from the same place."""


@dataclass(frozen=True)
class Support:
    """What the cameras of a reconstruction rest on."""

    points_per_photo: dict[int, int]
    """How many points each registered photo sees, by the image's id."""
    parallax: float
    """Degrees between the two rays of a point that differ most; median of all points, 0 without any."""
    points: int
    """How many points there are."""

    @property
    def supported(self) -> int:
        """Photos that see enough points."""
        return sum(count >= MIN_POINTS for count in self.points_per_photo.values())

    @property
    def weakest(self) -> list[int]:
        """Photos that see far fewer points than the others, by the image's id."""
        few = WEAK * float(np.median(list(self.points_per_photo.values()) or [0]))
        return [image_id for image_id, count in self.points_per_photo.items() if count < min(few, WEAK_POINTS)]

    @property
    def has_parallax(self) -> bool:
        """Whether distances can be told."""
        return self.parallax >= MIN_PARALLAX

    @property
    def strength(self) -> tuple[int, int]:
        """By this, reconstructions of the same photos are compared."""
        return (self.supported, self.points) if self.has_parallax else (0, self.points)


NO_SUPPORT = Support(points_per_photo={}, parallax=0.0, points=0)
"""Of no reconstruction."""


def support_of(model: pycolmap.Reconstruction) -> Support:
    """Counts what the cameras of a reconstruction rest on."""
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
    """Whether two photos could be of something flat or from the same place, so that they tell nothing of depth."""
    return pycolmap.TwoViewGeometryConfiguration(geometry.config) in HOMOGRAPHIES


def why_refused(support: Support, count: int, related: int, homographies: int) -> str | None:
    """What is wrong with the reconstruction, and how to photograph instead; None if nothing is.

    Args:
        support: what it rests on.
        count: photos that were tried.
        related: pairs of photos that share something.
        homographies: such pairs that tell nothing of depth.
    """
    from_one_place = related >= count - 1 and homographies >= ONE_PLACE * related
    enough = max(MIN_PHOTOS, MIN_SHARE * count)
    if not support.has_parallax and (from_one_place or support.supported >= enough):
        return (
            f"the {count} photos fit together, but were all taken from one place: the camera turned on the spot or "
            "hardly moved, and so no distance can be told. Walk around the subject instead: before each photo take a "
            "step to the side, and keep most of what the photo before shows in view"
        )
    if support.supported < enough or not support.has_parallax:
        placed = (
            f"only {support.supported} of the {count} photos could be placed, by the few points that they share"
            if support.supported
            else f"none of the {count} photos could be placed: they share too little"
        )
        return (
            f"{placed}. Take more photos in between, each a small step further and sharing most of its view with the "
            "one before"
        )
    return None
