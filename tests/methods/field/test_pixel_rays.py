# SPDX-License-Identifier: Apache-2.0
"""Rays through pixels equal Nerfstudio's."""

from __future__ import annotations

import pytest
import torch
from nerfstudio.cameras.camera_utils import get_distortion_params
from nerfstudio.cameras.cameras import Cameras, CameraType
from torch import Tensor

from img3d_methods.field.pixel_rays import PixelRays, picture_rays


def cameras(camera_type: CameraType = CameraType.PERSPECTIVE, distortion: Tensor | None = None) -> Cameras:
    """Three cameras with different poses and intrinsics, 40 x 30 pixels."""
    torch.manual_seed(0)
    rotations = torch.linalg.qr(torch.randn(3, 3, 3)).Q
    rotations[torch.linalg.det(rotations) < 0, :, 0] *= -1
    return Cameras(
        torch.cat([rotations, torch.randn(3, 3, 1)], dim=2),
        fx=torch.tensor([30.0, 35.0, 50.0]),
        fy=torch.tensor([31.0, 33.0, 52.0]),
        cx=torch.tensor([20.0, 19.0, 21.5]),
        cy=torch.tensor([15.0, 14.0, 16.5]),
        width=40,
        height=30,
        distortion_params=distortion,
        camera_type=camera_type,
    )


TYPES = pytest.mark.parametrize(
    ("camera_type", "distortion"),
    [
        (CameraType.PERSPECTIVE, None),
        (CameraType.PERSPECTIVE, torch.zeros(3, 6)),
        (CameraType.PERSPECTIVE, get_distortion_params(k1=0.1, p1=0.01).expand(3, 6)),
        (CameraType.FISHEYE, None),
        (CameraType.EQUIRECTANGULAR, None),
    ],
    ids=["pinhole", "no distortion", "distortion", "fisheye", "equirectangular"],
)


@TYPES
def test_rays_are_nerfstudios(camera_type: CameraType, distortion: Tensor | None) -> None:
    given = cameras(camera_type, distortion)
    indices = torch.randint(3, (200,))
    coords = torch.rand(200, 2) * torch.tensor([30.0, 40.0])
    found = PixelRays(given)(indices, coords)
    expected = given.generate_rays(camera_indices=indices[:, None], coords=coords)
    torch.testing.assert_close(found.origins, expected.origins)
    torch.testing.assert_close(found.directions, expected.directions)
    torch.testing.assert_close(found.camera_indices, expected.camera_indices)
    assert found.metadata is not None and expected.metadata is not None
    torch.testing.assert_close(found.metadata["directions_norm"], expected.metadata["directions_norm"])
    torch.testing.assert_close(found.pixel_area, expected.pixel_area, rtol=0.05, atol=0)


@TYPES
def test_rays_of_a_picture_are_nerfstudios(camera_type: CameraType, distortion: Tensor | None) -> None:
    camera = cameras(camera_type, distortion)[1:2]
    found, expected = picture_rays(camera), camera.generate_rays(camera_indices=0, keep_shape=True)
    assert found.shape == (30, 40)
    torch.testing.assert_close(found.origins, expected.origins)
    torch.testing.assert_close(found.directions, expected.directions)
    assert (found.camera_indices == 0).all()
