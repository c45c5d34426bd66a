# SPDX-License-Identifier: Apache-2.0
"""Converts Nerfstudio's cameras to the viewpoints that cleaning uses: positions and angles of view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from img3d_assets.splat_editing.cleaning import Viewpoints
from img3d_kernels.poses import viewmats

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras


def viewpoints_of(cameras: Cameras) -> Viewpoints:
    """The viewpoints of cameras of shape [C]; cameras other than perspective ones count as seeing in all directions."""
    from nerfstudio.cameras.cameras import CameraType  # imported late: it takes seconds, and files need no cameras

    poses = cameras.camera_to_worlds.cpu().double()
    fx, fy, cx, cy, width, height = (
        value.cpu().double().numpy()[:, 0]
        for value in (cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height)
    )
    slopes = np.stack([-cx / fx, (width - cx) / fx, -cy / fy, (height - cy) / fy], axis=1)
    slopes[cameras.camera_type.cpu().numpy()[:, 0] != CameraType.PERSPECTIVE.value] = np.inf
    return Viewpoints(poses[:, :, 3].numpy(), viewmats(poses)[:, :3, :3].numpy(), slopes)
