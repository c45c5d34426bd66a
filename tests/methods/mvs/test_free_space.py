# SPDX-License-Identifier: Apache-2.0
"""Photos see through what is not there, and only through that."""

from __future__ import annotations

import torch
from stereo_scenes import stereo_scene

from img3d_kernels.stereo.views import DepthMap, rays
from img3d_methods.mvs.free_space import seen_through


def test_points_before_the_surface_are_seen_through() -> None:
    views, depths, normals = stereo_scene()
    maps = [DepthMap(depth, each, torch.zeros_like(depth)) for depth, each in zip(depths, normals, strict=True)]
    pose = torch.linalg.inv(views[0].viewmat)
    for factor, least, most in ((1.0, 0.0, 0.02), (0.8, 0.95, 1.0), (1.2, 0.0, 0.1)):
        in_camera = (rays(views[0].K, 80, 96) * depths[0][..., None] * factor)[20:60, 24:72].reshape(-1, 3).double()
        points = (in_camera @ pose[:3, :3].T + pose[:3, 3]).numpy()
        assert least <= seen_through(points, views, maps).mean() <= most
    nothing = [DepthMap.empty(80, 96)] * len(views)
    assert not seen_through(points, views, nothing).any()
