# SPDX-License-Identifier: Apache-2.0
"""Rays that are an image's pixels give back its camera, and normals of what they hit."""

from __future__ import annotations

import torch
from gaussian_scenes import looking_at, pinhole_camera
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle

from img3d_methods.viewing.ray_bundles import normals_from_distances, pinhole_of_bundle


def rays_of(camera: Cameras) -> RayBundle:
    return camera.generate_rays(camera_indices=0, keep_shape=True)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-50, 50).filter(lambda x: abs(x) > 0.1)] * 3),
    st.floats(8, 2000),
    st.floats(0.5, 2.0),
    st.floats(-0.5, 1.5),
    st.integers(2, 70),
    st.integers(2, 70),
)
def test_the_camera_is_recovered(
    origin: tuple[float, float, float], focal: float, aspect: float, center: float, width: int, height: int
) -> None:
    camera = pinhole_camera(origin, width, height, fx=focal, fy=focal * aspect, cx=center * width, cy=center * height)
    pinhole = pinhole_of_bundle(rays_of(camera))
    assert pinhole is not None
    camera_to_world, K, found_width, found_height = pinhole
    assert (found_width, found_height) == (width, height)
    torch.testing.assert_close(camera_to_world, camera.camera_to_worlds[0], atol=2e-5 * (1 + 0.1 * focal), rtol=1e-5)
    # What matters is where the corners' rays go.
    corners = torch.tensor([[0.0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    expected = corners @ torch.inverse(camera.get_intrinsics_matrices()[0]).T
    torch.testing.assert_close(corners @ torch.inverse(K).T, expected, atol=1e-4, rtol=1e-3)


def test_a_part_of_the_pixels_is_a_camera_too() -> None:
    camera = pinhole_camera(width=48, height=40)
    rows, columns = torch.meshgrid(torch.arange(1.5, 40, 4), torch.arange(0.5, 48, 3), indexing="ij")
    bundle = camera.generate_rays(camera_indices=0, coords=torch.stack([rows, columns], dim=-1))
    pinhole = pinhole_of_bundle(bundle)
    assert pinhole is not None
    _, K, width, height = pinhole
    assert (width, height) == (16, 10)
    torch.testing.assert_close(K[0, 0], torch.tensor(50.0 / 3), rtol=1e-4, atol=0)
    torch.testing.assert_close(K[1, 1], torch.tensor(44.0 / 4), rtol=1e-4, atol=0)


def test_rays_that_are_no_pinhole_image_are_recognised() -> None:
    camera = pinhole_camera()
    bundle = rays_of(camera)
    assert pinhole_of_bundle(bundle.flatten()) is None
    moved = rays_of(camera)
    moved.origins = moved.origins + torch.rand_like(moved.origins)
    assert pinhole_of_bundle(moved) is None
    shuffled = bundle[torch.randperm(40)]
    assert pinhole_of_bundle(shuffled) is None
    fisheye = Cameras(looking_at((1.0, 1.0, 1.0))[None], 20.0, 20.0, 24.0, 20.0, 48, 40, camera_type=CameraType.FISHEYE)
    assert pinhole_of_bundle(rays_of(fisheye)) is None
    panorama = Cameras(
        looking_at((1.0, 1.0, 1.0))[None], 24.0, 40.0, 24.0, 20.0, 48, 40, camera_type=CameraType.EQUIRECTANGULAR
    )
    assert pinhole_of_bundle(rays_of(panorama)) is None


def test_normals_of_a_plane_point_towards_the_camera() -> None:
    bundle = rays_of(pinhole_camera((1.0, 0.5, 3.0)))
    distances = -bundle.origins[..., 2:] / bundle.directions[..., 2:]  # to the plane z = 0
    normals = normals_from_distances(bundle.origins, bundle.directions, distances)
    torch.testing.assert_close(normals, torch.tensor([0.0, 0, 1]).expand_as(normals), atol=1e-3, rtol=0)


def test_normals_of_a_ball_point_away_from_its_centre() -> None:
    bundle = rays_of(pinhole_camera((3.0, 0.0, 0.5), fx=300.0, fy=300.0))
    along = -(bundle.origins * bundle.directions).sum(-1, keepdim=True)
    distances = along - (along**2 - (bundle.origins**2).sum(-1, keepdim=True) + 1).sqrt()
    normals = normals_from_distances(bundle.origins, bundle.directions, distances)[1:-1, 1:-1]
    points = (bundle.origins + bundle.directions * distances)[1:-1, 1:-1]
    assert torch.isfinite(points).all()
    assert float((normals * points).sum(-1).min()) > 0.99
