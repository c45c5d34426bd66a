# SPDX-License-Identifier: Apache-2.0
"""Cameras on orbits: where they are, where they look, and the rays through their pixels."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures
from hypothesis import given
from hypothesis import strategies as st

from img3d_generators.cameras import (
    LGM_FOV,
    LGM_RADIUS,
    ZERO123PLUS_RIGS,
    normalised_to_first,
    orbit_camera_to_worlds,
    plucker_rays,
)
from img3d_kernels.poses import intrinsics, viewmats

azimuths = st.floats(-360, 360)
elevations = st.floats(-80, 80)
radii = st.floats(0.5, 3)


def test_azimuth_0_is_on_plus_z_and_90_on_plus_x() -> None:
    poses = orbit_camera_to_worlds([0, 90], [0, 0], 2.0)
    assert torch.allclose(poses[:, :3, 3], torch.tensor([[0.0, 0, 2], [2, 0, 0]]), atol=1e-6)


def test_positive_elevation_is_above() -> None:
    assert orbit_camera_to_worlds([40], [30], 2.0)[0, 1, 3] == pytest.approx(1.0)


@given(azimuths, elevations, radii)
def test_cameras_look_at_the_origin_upright(azimuth: float, elevation: float, radius: float) -> None:
    pose = orbit_camera_to_worlds([azimuth], [elevation], radius)[0].double()
    rotation, position = pose[:3, :3], pose[:3, 3]
    assert torch.allclose(rotation.T @ rotation, torch.eye(3, dtype=torch.float64), atol=1e-5)
    assert torch.linalg.det(rotation) > 0
    assert torch.allclose(position, radius * rotation[:, 2], atol=1e-5)
    assert abs(rotation[1, 0]) < 1e-6  # the horizon is level
    assert rotation[1, 1] > 0


@given(azimuths, elevations, azimuths, elevations, radii)
def test_normalised_cameras_stand_to_each_other_as_before(
    azimuth: float, elevation: float, other_azimuth: float, other_elevation: float, radius: float
) -> None:
    poses = orbit_camera_to_worlds([azimuth, other_azimuth], [elevation, other_elevation], radius)
    normalised, transform = normalised_to_first(poses)
    bottom = torch.tensor([[[0.0, 0, 0, 1]]] * 2)
    poses, normalised = torch.cat([poses, bottom], dim=1), torch.cat([normalised, bottom], dim=1)
    expected = torch.eye(4)
    expected[2, 3] = radius
    assert torch.allclose(normalised[0], expected, atol=1e-5)
    assert torch.allclose(normalised, transform @ poses, atol=1e-5)
    assert torch.allclose(normalised[0].inverse() @ normalised[1], poses[0].inverse() @ poses[1], atol=1e-5)


@given(azimuths, elevations)
def test_a_point_on_a_pixels_ray_projects_to_that_pixel(azimuth: float, elevation: float) -> None:
    size, row, column = 8, 1, 6
    pose = orbit_camera_to_worlds([azimuth], [elevation], LGM_RADIUS)
    moment, direction = plucker_rays(pose, LGM_FOV, size)[0, :, row, column].split(3)
    nearest = torch.linalg.cross(direction, moment)  # of the ray's points to the origin
    assert torch.allclose(torch.linalg.cross(nearest, direction), moment, atol=1e-5)
    in_camera = viewmats(pose)[0] @ torch.cat([nearest, torch.ones(1)])
    pixel = intrinsics(LGM_FOV, size) @ in_camera[:3]
    assert in_camera[2] > 0
    assert torch.allclose(pixel[:2] / pixel[2], torch.tensor([column + 0.5, row + 0.5]), atol=1e-3)


def test_v12s_rig_just_sees_the_sphere_of_radius_half_from_its_middle() -> None:
    rig = ZERO123PLUS_RIGS["v1.2"]
    assert rig.radius * math.tan(math.radians(rig.fov / 2)) == pytest.approx(0.5)


@pytest.mark.parametrize(("version", "elevations", "fov"), [("v1.1", (30, -20), 49.1), ("v1.2", (20, -10), 30)])
def test_rigs_are_the_published_ones(version: str, elevations: tuple[int, int], fov: float) -> None:
    rig = ZERO123PLUS_RIGS[version]
    assert rig.azimuths == (30, 90, 150, 210, 270, 330)
    assert rig.elevations == elevations * 3
    assert rig.fov == pytest.approx(fov, abs=0.05)


@golden_fixtures("lgm_rays")
def test_rigs_poses_and_rays_are_the_references(golden: Golden) -> None:
    size = picture_size(golden)
    for name, config in golden.sidecar["config"]["pose_sets"].items():
        poses = orbit_camera_to_worlds(config["azimuth_deg"], config["elevation_deg"], config["radius"])
        normalised, _ = normalised_to_first(poses)
        for suffix, cameras in (("", poses), ("_first_normalised", normalised)):
            rays = plucker_rays(cameras, config["fovy_deg"], size)
            np.testing.assert_allclose(cameras, golden.arrays[f"{name}_c2w{suffix}"][:, :3], atol=1e-5)
            np.testing.assert_allclose(rays, golden.arrays[f"{name}_plucker{suffix}"], atol=1e-5)


@golden_fixtures("lgm_rays")
def test_lgms_default_rays_are_the_references(golden: Golden) -> None:
    size, prefix = picture_size(golden), "lgm_default_plucker_kiui_elevation_"
    names = [name for name in golden.arrays if name.startswith(prefix)]
    if not names:
        pytest.skip(f"{golden.name} has no rays of LGM's default cameras")
    for name in names:
        stated = re.search(
            r"azimuths ([\d.,]+), radius ([\d.]*\d), fovy ([\d.]*\d)", golden.sidecar["arrays"][name]["meaning"]
        )
        assert stated is not None
        azimuths = [float(azimuth) for azimuth in stated[1].split(",")]
        elevations = [-float(name.removeprefix(prefix))] * len(azimuths)  # kiui's is positive below
        poses = orbit_camera_to_worlds(azimuths, elevations, float(stated[2]))
        np.testing.assert_allclose(plucker_rays(poses, float(stated[3]), size), golden.arrays[name], atol=1e-5)


def picture_size(golden: Golden) -> int:
    """Height and width of the fixture's pictures; skips where they are not square."""
    height, width = golden.sidecar["config"]["h"], golden.sidecar["config"]["w"]
    if height != width:
        pytest.skip(f"{golden.name} has rays of pictures of {width} x {height} pixels; LGM's are square")
    return height
