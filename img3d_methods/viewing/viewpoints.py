# SPDX-License-Identifier: Apache-2.0
"""What cleaning asks of Nerfstudio's cameras: where they are, and how far to each side they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from img3d_assets.splat_cleaning import Viewpoints
from img3d_kernels.poses import viewmats

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras


def viewpoints_of(cameras: Cameras) -> Viewpoints:
    """Those of cameras of shape [C]; lenses that bend the edges of their pictures count as seeing all around."""
    from nerfstudio.cameras.cameras import CameraType  # late: it takes seconds, and views of files need no cameras

    poses = cameras.camera_to_worlds.cpu().double()
    fx, fy, cx, cy, width, height = (
        value.cpu().double().numpy()[:, 0]
        for value in (cameras.fx, cameras.fy, cameras.cx, cameras.cy, cameras.width, cameras.height)
    )
    slopes = np.stack([-cx / fx, (width - cx) / fx, -cy / fy, (height - cy) / fy], axis=1)
    slopes[cameras.camera_type.cpu().numpy()[:, 0] != CameraType.PERSPECTIVE.value] = np.inf
    return Viewpoints(poses[:, :, 3].numpy(), viewmats(poses)[:, :3, :3].numpy(), slopes)
