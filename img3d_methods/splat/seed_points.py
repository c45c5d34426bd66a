# SPDX-License-Identifier: Apache-2.0
"""Random seed points in what the cameras see, for data without a sparse reconstruction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_kernels.poses import point_of_attention

MIN_DEPTH, MAX_DEPTH = 0.2, 2.0
"""Range of depths, in multiples of the median distance from the cameras to what they look at."""


def random_points_in_frusta(cameras: Cameras, num_points: int, seed: int = 0) -> Float[Tensor, "N 3"]:
    """Random points seen by the cameras: each is on the ray of a random pixel of a random camera, at a random depth.

    Splatfacto scatters them in a cube ten times as wide as the cameras' extent, most of which is never seen.

    Args:
        cameras: Nerfstudio cameras of shape [C] (OpenGL camera-to-world); lens distortion is ignored.
        num_points: Number of points.
        seed: Random seed.

    Returns:
        World coordinates.
    """
    generator = torch.Generator().manual_seed(seed)
    camera_to_worlds = cameras.camera_to_worlds.cpu().double()
    origins, forward = camera_to_worlds[:, :, 3], -camera_to_worlds[:, :, 2]
    distance = (point_of_attention(origins, forward) - origins).norm(dim=-1).median().item()
    if distance < 1e-6:  # all cameras in one place: the scale is undefined
        distance = 1.0

    index = torch.randint(len(cameras), (num_points,), generator=generator)
    u, v, w = torch.rand(3, num_points, generator=generator, dtype=torch.float64)
    depth = distance * (MIN_DEPTH + (MAX_DEPTH - MIN_DEPTH) * w)

    def of_camera(values: Tensor) -> Tensor:
        return values.cpu().double().reshape(len(cameras))[index]

    x = (u * of_camera(cameras.width) - of_camera(cameras.cx)) / of_camera(cameras.fx)
    y = (v * of_camera(cameras.height) - of_camera(cameras.cy)) / of_camera(cameras.fy)
    directions = torch.stack([x, -y, -torch.ones_like(x)], dim=-1)
    rotations = camera_to_worlds[index, :, :3]
    points = origins[index] + depth[:, None] * (rotations @ directions[..., None])[..., 0]
    return points.float()
