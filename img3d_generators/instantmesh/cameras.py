# SPDX-License-Identifier: Apache-2.0
"""Converts views to InstantMesh's input: from Zero123++ v1.2's cameras, at distance 4 in a world with z up."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.cameras import TO_FRONT_ON_Z, ZERO123PLUS_RIGS
from img3d_generators.posed_views import PosedViews
from img3d_kernels.poses import focal_length

RADIUS = 4.0
"""Distance of the cameras from the origin in the network's world."""
FEWER_VIEWS = (0, 2, 4, 5)
"""Indices of the views that are used if only four of six are wanted."""
SAME_LENS = 1.0
"""Maximum difference of a field of view from the trained one, in degrees."""
SAME_DISTANCE = 0.02
"""Maximum relative difference of the cameras' distances from the object."""


def camera_numbers(views: PosedViews) -> Float[Tensor, "V 16"]:
    """The cameras as the network takes them: the rows of the poses in its world, then focal lengths and centres as
    shares of the picture's size.

    Raises:
        InputError: The cameras have another field of view or different distances.
    """
    expected = ZERO123PLUS_RIGS["v1.2"].fov
    distances = views.camera_to_worlds[:, :, 3].norm(dim=1)
    if abs(views.fov - expected) > SAME_LENS:
        raise InputError(
            f"InstantMesh takes views by a lens of {expected:g} degrees, as Zero123++ v1.2 makes them; these have "
            f"{views.fov:.1f} degrees"
        )
    if (distances - distances[0]).abs().max() > SAME_DISTANCE * distances[0]:
        raise InputError(
            "InstantMesh takes views by cameras at one distance from the object, as Zero123++ v1.2 makes them; these "
            f"are at {distances.min():.3g} to {distances.max():.3g}"
        )
    poses = TO_FRONT_ON_Z.T @ views.camera_to_worlds
    poses[:, :, 3] *= RADIUS / distances[0]
    focal = focal_length(views.fov, 1)
    lens = torch.tensor([focal, focal, 0.5, 0.5]).expand(len(views), -1)
    return torch.cat([poses.flatten(1), lens], dim=1)


def chosen(views: PosedViews, num_views: int) -> PosedViews:
    """Chooses four of six views if four are wanted.

    Args:
        views: The views.
        num_views: The number of views that are wanted: 4 or 6.

    Raises:
        InputError: There is another number of views.
    """
    if num_views == len(FEWER_VIEWS) and len(views) == len(ZERO123PLUS_RIGS["v1.2"].azimuths):
        return views.pick(FEWER_VIEWS)
    if len(views) != num_views:
        raise InputError(f"InstantMesh takes 6 or 4 views of an object; these are {len(views)}")
    return views
