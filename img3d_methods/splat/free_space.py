# SPDX-License-Identifier: Apache-2.0
"""Space that photos show to be empty: between their cameras and the seed points that they see.

Fog in front of the cameras explains few photos as well as the surface does, and other views show it. Where several
photos see seed points, or the sky, what is far in front of all of these is fog. With few photos, what hardly one
sees, such as what is beside the last photo of a row, is presumed to be fog if it is far in front of the nearest points
that are known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from nerfstudio.cameras.cameras import Cameras
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from img3d_kernels.depth_cells import in_cells, nearest_depths
from img3d_kernels.poses import viewmats
from img3d_methods.splat.sky import SkyPoints
from img3d_methods.training.few_photos import by_photos

MIN_PHOTOS = 2
"""Photos that must show a place to be empty."""
UNSURE_PHOTOS = 2
"""Photos, at most, that see a place that is presumed to be empty: more of them know themselves what is there."""
MARGIN = 0.5
"""How far beside a photo its points say what is presumed, relative to its longest side."""
MAX_PHOTOS = 40
"""Photos that are asked; of more, evenly spread ones."""
CLEAR_EVERY = 100
"""Steps between two removals."""
CLEAR_UNTIL = 0.7
"""Fraction of a run after which nothing is removed: holes would be left."""


@dataclass(frozen=True)
class FreeSpace:
    """What photos show to be empty."""

    Ks: Float[Tensor, "C 3 3"]
    """Intrinsics of the photos, in pixels."""
    viewmats: Float[Tensor, "C 4 4"]
    """World to camera, OpenCV axes."""
    sizes: Int64[Tensor, "C 2"]
    """Width and height of the photos, in pixels."""
    depths: Float[Tensor, "C h w"]
    """Depth, along the camera's axis, up to which each cell is empty; 0 where that is not known."""
    presumed_depths: Float[Tensor, "C h w"]
    """Depth up to which each cell, and what is beside the photo, is presumed to be empty, by the nearest cell in which
    points are known; less with more photos, and 0 with enough."""

    @classmethod
    def in_front_of(
        cls, points: Float[Tensor, "P 3"], cameras: Cameras, share: float, sky: SkyPoints | None = None
    ) -> FreeSpace:
        """The space in front of these points.

        Args:
            points: Seed points on surfaces.
            cameras: Pinhole cameras `[C]` of the photos.
            share: The part of the way from a camera to the points that counts as empty.
            sky: What the photos show of the sky.
        """
        num_photos = len(cameras)
        every = math.ceil(num_photos / MAX_PHOTOS)
        cameras = cameras[::every]
        Ks, poses = cameras.get_intrinsics_matrices().cpu(), viewmats(cameras.camera_to_worlds.cpu())
        sizes = torch.cat([cameras.width, cameras.height], dim=-1).view(-1, 2).cpu()
        points = points.cpu().float()
        photos = [(K, pose, *size) for K, pose, size in zip(Ks, poses, sizes.tolist(), strict=True)]
        nearest = of_points = [nearest_depths(points, *photo) for photo in photos]
        if sky is not None:
            seen = [torch.cat([points, sky.points[shown]]) for shown in sky.shown[::every]]
            nearest = [nearest_depths(shown, *photo) for shown, photo in zip(seen, photos, strict=True)]
        presumed_share = share * by_photos(num_photos, 1, 0)
        presumed = torch.stack([_filled(depths) for depths in of_points])
        return cls(Ks, poses, sizes, share * torch.stack(nearest), presumed_share * presumed)

    @staticmethod
    def is_due(step: int, max_steps: int) -> bool:
        """Whether what is in it is removed after this step."""
        return 0 < step < CLEAR_UNTIL * max_steps and step % CLEAR_EVERY == 0

    def holds(self, means: Float[Tensor, "N 3"]) -> Bool[Tensor, "N"]:
        """Which Gaussians at these places are fog: several photos show so, or it is presumed and no photo denies it."""
        means = means.detach().cpu()
        num_photos, num_empty = torch.zeros(2, len(means), dtype=torch.int32)
        on_surface, presumed = torch.zeros(2, len(means), dtype=torch.bool)
        for K, pose, (width, height), depths, presumed_depths in zip(
            self.Ks, self.viewmats, self.sizes.tolist(), self.depths, self.presumed_depths, strict=True
        ):
            near, inside, cells, in_photo = in_cells(means, K, pose, width, height, MARGIN)
            known = depths.view(-1)[cells]
            empty = inside & (in_photo < known)
            num_photos += inside
            num_empty += empty
            on_surface |= inside & ~empty & (known > 0)
            presumed |= near & (in_photo < presumed_depths.view(-1)[cells])
        shown = num_empty >= min(MIN_PHOTOS, len(self.depths))
        return shown | presumed & ~on_surface & (num_photos <= UNSURE_PHOTOS)


def _filled(depths: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Depths of cells; those that are not known (0) are that of the nearest known cell, if there is any."""
    if not depths.any():
        return depths
    nearest = distance_transform_edt(depths.numpy() == 0, return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(np.asarray(nearest)).long()
    return depths[rows, columns]
