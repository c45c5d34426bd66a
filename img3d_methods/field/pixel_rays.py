# SPDX-License-Identifier: Apache-2.0
"""Rays through pixels of many photos, or of a whole picture, for pinhole cameras in a fraction of the time that
Nerfstudio takes: that was as long as placing all samples along the rays."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor


class PixelRays:
    """Rays of a set of cameras.

    Args:
        cameras: Cameras `[C]` of any type; those with distortion, or that are no pinholes, are left to Nerfstudio.
    """

    def __init__(self, cameras: Cameras) -> None:
        self._cameras = cameras
        distortion = cameras.distortion_params
        self._is_pinhole = bool((cameras.camera_type == CameraType.PERSPECTIVE.value).all()) and (
            distortion is None or not bool(distortion.any())
        )
        if not self._is_pinhole:
            return
        fx, fy, cx, cy = (values[:, 0] for values in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        rows = [[1 / fx, zero, -cx / fx], [zero, -1 / fy, cy / fy], [zero, zero, -one]]
        in_camera = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)
        self._to_directions = cameras.camera_to_worlds[:, :, :3] @ in_camera
        self._centers = cameras.camera_to_worlds[:, :, 3]
        self._areas = 1 / (fx * fy)

    def __call__(self, indices: Int64[Tensor, "R"], coords: Float[Tensor, "R 2"]) -> RayBundle:
        """Rays `[R]`.

        Args:
            indices: The cameras' indices.
            coords: (y, x) in pixels, with pixel centres at +0.5.
        """
        if not self._is_pinhole:
            return self._cameras.generate_rays(camera_indices=indices[:, None], coords=coords)
        if len(self._areas) == 1:  # a picture: not a copy of the camera's matrix for each pixel
            to_direction, centers, areas = self._to_directions, self._centers.expand(len(coords), 3), self._areas
        else:
            to_direction, centers, areas = (
                values[indices] for values in (self._to_directions, self._centers, self._areas)
            )
        directions = (
            to_direction[:, :, 0] * coords[:, 1:] + to_direction[:, :, 1] * coords[:, :1] + to_direction[:, :, 2]
        )
        lengths = directions.norm(dim=1, keepdim=True)
        return RayBundle(
            origins=centers.contiguous(),
            directions=directions.div_(lengths),
            pixel_area=areas[:, None] / lengths**3,
            camera_indices=indices[:, None],
            metadata={"directions_norm": lengths},
        )


def picture_rays(camera: Cameras) -> RayBundle:
    """Rays `[H, W]` through the pixel centres of one camera `[1]`."""
    height, width = int(camera.height[0]), int(camera.width[0])
    indices = torch.zeros(height * width, dtype=torch.int64, device=camera.device)
    coords = camera.get_image_coords().reshape(-1, 2).to(camera.device)
    return PixelRays(camera)(indices, coords).reshape((height, width))
