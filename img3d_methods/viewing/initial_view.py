# SPDX-License-Identifier: Apache-2.0
"""Where the camera of a page is when it opens: at a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from img3d_kernels.poses import point_of_attention

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras

VISERS_OWN_POSITION = (3.0, 3.0, 3.0)
"""The position at which a page of viser opens."""
PAST_PHOTO = 0.3
"""How far in front of a photo's camera a page of viser opens, in the page's units: Nerfstudio draws the photo 0.2 in
front of its camera, where it would hide the scene."""


@dataclass
class InitialView:
    """Initial pose of a page's camera, in world coordinates."""

    position: Float[np.ndarray, "3"]
    target: Float[np.ndarray, "3"]
    """The point that it looks at and orbits."""
    fov: float
    """Field of view along the longer side of the window, in degrees."""


def view_of_photo(cameras: Cameras, index: int = 0) -> InitialView:
    """The view of a training photo. The page's camera orbits the point on its optical axis at the distance of what
    all photos look at.

    Args:
        cameras: Nerfstudio cameras of shape [C].
        index: Index of the photo.
    """
    poses = cameras.camera_to_worlds.cpu().double()
    origins, forward = poses[:, :, 3], -poses[:, :, 2]
    distance = float((point_of_attention(origins, forward) - origins[index]) @ forward[index])
    if distance <= 0:  # photos look outward, as in a room: orbit a point near the camera
        distance = max(0.5 * float((origins - origins.mean(0)).norm(dim=-1).median()), 0.1)
    half_tangents = (float(cameras.width[index] / cameras.fx[index]), float(cameras.height[index] / cameras.fy[index]))
    return InitialView(
        position=origins[index].numpy(),
        target=(origins[index] + distance * forward[index]).numpy(),
        fov=math.degrees(2 * math.atan(max(half_tangents) / 2)),
    )


def open_at(view: InitialView, client: Any, units: float) -> None:
    """Moves the camera of a viser page that has just opened. A page that has only connected again stays where it is.

    Args:
        view: Where to. Its angle becomes the vertical one, whose sides a panel of the page then narrows.
        client: Viser's handle of the page.
        units: Units of the page per world unit.
    """
    camera = client.camera
    if not np.allclose(camera.position, VISERS_OWN_POSITION, atol=1e-3):
        return
    position, target = view.position * units, view.target * units
    distance = float(np.linalg.norm(target - position))
    with client.atomic():
        camera.fov = math.radians(view.fov)
        camera.position = position + (target - position) * min(PAST_PHOTO / distance, 0.5)
        camera.look_at = target
