# SPDX-License-Identifier: Apache-2.0
"""Seed points for the sky: a shell of far points, where the photos show sky.

The sky has no features, so triangulation leaves it without seeds, and Gaussians near the cameras grow to explain it:
fog. What tells sky from a wall without features is that it is infinitely far: photos from different places show the
same colour in the same direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.poses import viewmats
from img3d_kernels.projection import in_picture

DISTANCE = 100.0
"""Radius of the shell, in multiples of the scene's extent."""
SPACING = math.radians(1.5)
"""Angle between neighbouring points."""
PICTURE_SIZE = 160
"""Longest side in pixels of the photos that are searched for sky."""
MAX_GRADIENT = 0.04
"""Largest difference of brightness between neighbouring pixels of sky at that size: clouds have less, branches more."""
MIN_REGION = 0.005
"""Smallest part of a photo that a region of sky covers."""
AROUND_POINTS = 4
"""Pixels around a seed point that are no sky."""
MIN_PHOTOS = 2
"""Photos that must show a direction in the same colour."""
MIN_AGREEMENT = 0.5
"""Part of the photos that show no feature in a direction which must agree on its colour."""
MAX_COLOR_DIFFERENCE = 0.06
"""Largest difference from the median colour of those that agree."""
MIN_SHARE = 0.02
"""Part of the photos that must be sky; less is no outdoor scene."""

ROTATION_ONLY = torch.tensor([[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
"""Factors of a view matrix that leave out its translation: directions are points at infinity."""


@dataclass(frozen=True)
class SkyPoints:
    """Points on a shell around the cameras."""

    points: Float[Tensor, "N 3"]
    """World coordinates."""
    colors: Float[Tensor, "N 3"]
    """In [0, 1]."""
    shown: Bool[Tensor, "C N"]
    """Which photos show each point: nothing is between their cameras and the sky."""


def sky_points(
    images: Sequence[UInt8[Tensor, "H W C"]], cameras: Cameras, points: Float[Tensor, "P 3"]
) -> SkyPoints | None:
    """Points on a far shell in the directions in which the photos show sky; None if they show none.

    Args:
        images: Of the photos, RGB. Photos with opacity show objects without surroundings: there is no sky in them.
        cameras: Of shape [N], pinhole, in a world whose z axis points up.
        points: Seed points on surfaces.
    """
    if len(images) < MIN_PHOTOS or any(image.shape[-1] != 3 for image in images):
        return None
    center, extent = _center_and_extent(points.float().cpu(), cameras)
    directions = _directions_above()
    seen = torch.full((len(images), len(directions), 3), torch.nan)
    solid_angle = 0.0
    for i, image in enumerate(images):
        small, K, viewmat = _small_photo(image, cameras, i)
        height, width = small.shape[:2]
        inside, pixels, _ = in_picture(directions, K, viewmat * ROTATION_ONLY, width, height)
        columns, rows = pixels[inside].long().unbind(dim=1)
        featureless = _featureless_regions(small, K, viewmat, points)
        shown = small[rows, columns]
        shown[~featureless[rows, columns]] = torch.nan
        seen[i, inside] = shown
        solid_angle += float(width * height / (K[0, 0] * K[1, 1]))
    median = seen.nanmedian(dim=0).values
    agrees = (seen - median).abs().amax(dim=-1) <= MAX_COLOR_DIFFERENCE
    agreeing = agrees.sum(dim=0)
    featureless_in = (~seen[..., 0].isnan()).sum(dim=0)
    is_sky = (agreeing >= MIN_PHOTOS) & (agreeing >= MIN_AGREEMENT * featureless_in)
    if int(agreeing[is_sky].sum()) * SPACING**2 < MIN_SHARE * solid_angle:
        return None
    return SkyPoints(center + DISTANCE * extent * directions[is_sky], median[is_sky], agrees[:, is_sky])


def in_sky(points: Float[Tensor, "P 3"], cameras: Cameras) -> Bool[Tensor, "P"]:
    """Which points of a scene (world coordinates) are so far that they show the sky, not a surface.

    Args:
        points: On surfaces for the most part.
        cameras: Of shape [N].
    """
    center, extent = _center_and_extent(points, cameras)
    return (points - center).norm(dim=1) > DISTANCE / 4 * extent


def _center_and_extent(points: Float[Tensor, "P 3"], cameras: Cameras) -> tuple[Float[Tensor, "3"], float]:
    """The mean of the cameras' centres, and the distance from it to the farthest of them or to the points' median,
    whichever is larger: photos of something far may be taken from almost one place."""
    origins = cameras.camera_to_worlds[:, :3, 3].to(points)
    center = origins.mean(dim=0)
    surfaces = (points - center).norm(dim=1).median() if len(points) else origins.new_zeros(())
    return center, float(torch.maximum((origins - center).norm(dim=1).max(), surfaces)) or 1.0


def _directions_above() -> Float[Tensor, "D 3"]:
    """Unit vectors above the horizon, evenly spread (a Fibonacci lattice)."""
    count = round(2 * math.pi / SPACING**2)
    index = torch.arange(count, dtype=torch.float64)
    z = 1 - (index + 0.5) / count
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=1).float()


def _small_photo(
    image: UInt8[Tensor, "H W 3"], cameras: Cameras, index: int
) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "3 3"], Float[Tensor, "4 4"]]:
    """A reduced photo in [0, 1], its intrinsics and its view matrix."""
    camera = cameras[index : index + 1].to("cpu")
    factor = PICTURE_SIZE / max(image.shape[:2])
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = cv2.resize(image.cpu().numpy(), size, interpolation=cv2.INTER_AREA)
    K = camera.get_intrinsics_matrices()[0].clone()
    K[0] *= size[0] / image.shape[1]
    K[1] *= size[1] / image.shape[0]
    return torch.from_numpy(small / np.float32(255)), K, viewmats(camera.camera_to_worlds)[0]


def _featureless_regions(
    photo: Float[Tensor, "H W 3"], K: Float[Tensor, "3 3"], viewmat: Float[Tensor, "4 4"], points: Float[Tensor, "P 3"]
) -> Bool[Tensor, "H W"]:
    """Smooth parts of a photo without a seed point in or near them."""
    height, width = photo.shape[:2]
    brightness = cv2.GaussianBlur(photo.mean(dim=-1).numpy(), (3, 3), 0)
    steps = [cv2.Scharr(brightness, cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1))]
    inside, pixels, _ = in_picture(points.float().cpu(), K, viewmat, width, height)
    columns, rows = pixels[inside].long().numpy().T
    without_points = np.ones((height, width), np.uint8)
    without_points[rows, columns] = 0
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * AROUND_POINTS + 1, 2 * AROUND_POINTS + 1))
    featureless = (np.hypot(*steps) < MAX_GRADIENT) & (cv2.erode(without_points, around) > 0)
    _, regions, statistics, _ = cv2.connectedComponentsWithStats(featureless.astype(np.uint8), connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] >= MIN_REGION * height * width
    large[0] = False  # the rest
    return torch.from_numpy(large)[torch.from_numpy(regions).long()]
