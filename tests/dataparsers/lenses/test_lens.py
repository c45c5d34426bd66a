# SPDX-License-Identifier: Apache-2.0
"""Lenses project rays as pycolmap does, and as Nerfstudio does behind the camera."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from textured_room import fisheye_rays, panorama_lens, panorama_rays

from img3d_dataparsers.lenses.lens import OPENCV_FISHEYE, PARAMETERS, THIN_PRISM_FISHEYE, Lens

VALUES = {
    **{"f": 60.0, "fl_x": 60.0, "fl_y": 59.0, "cx": 31.0, "cy": 25.0, "k": 0.06, "k1": 0.06, "k2": -0.02, "k3": 0.01},
    **{"p1": 0.004, "p2": -0.003, "sx1": 0.002, "sy1": -0.001, "omega": 0.5, "alpha": 0.4, "beta": 1.1},
}
RAYS = np.array([[x, y, 1.0] for x in (-0.5, -0.1, 0.3, 0.48) for y in (-0.35, 0.02, 0.3)])


@pytest.mark.parametrize("model", [OPENCV_FISHEYE, *PARAMETERS])
def test_pixels_are_pycolmaps(model: str) -> None:
    keys = {OPENCV_FISHEYE: "fl_x fl_y cx cy k1 k2 k3 k4", **PARAMETERS}[model].split()
    parameters = tuple(VALUES.get(key, 0.005) for key in keys)
    theirs = pycolmap.Camera(model=model, width=64, height=48, params=parameters)
    ours = Lens(model, parameters, 64, 48).pixels(RAYS)
    np.testing.assert_allclose(ours, np.asarray(theirs.img_from_cam(RAYS)), atol=1e-9)


def test_panoramas_are_colmaps_and_nerfstudios() -> None:
    lens = panorama_lens(200, 100)
    pixels = np.array([[3.5, 1.5], [100, 50], [150, 20], [199.5, 99.5], [20.5, 50.5]])
    rays = panorama_rays(200, 100)(pixels)
    np.testing.assert_allclose(lens.pixels(3 * rays), pixels, atol=1e-9)
    theirs = pycolmap.Camera(model="EQUIRECTANGULAR", width=200, height=100, params=[200, 100])
    np.testing.assert_allclose(np.asarray(theirs.img_from_cam(rays)), pixels, atol=1e-9)
    pose = torch.eye(4)[None, :3]
    camera = Cameras(pose, 100.0, 100.0, 100.0, 50.0, 200, 100, camera_type=CameraType.EQUIRECTANGULAR)
    coords = torch.from_numpy(np.ascontiguousarray(pixels[:, ::-1])).float()
    bundle = camera.generate_rays(torch.zeros(len(pixels), 1, dtype=torch.long), coords=coords)
    np.testing.assert_allclose(bundle.directions.numpy() * [1, -1, -1], rays, atol=1e-5)


@pytest.mark.parametrize("model", [OPENCV_FISHEYE, THIN_PRISM_FISHEYE])
def test_fisheyes_see_behind_the_camera(model: str) -> None:
    """195 degrees. COLMAP's own projection ends at 180."""
    focal = 100 / np.radians(97.5)
    lens = Lens(model, (focal, focal, 100, 100, *[0.0] * (4 if model == OPENCV_FISHEYE else 8)), 200, 200)
    pixels = np.array([[0.5, 100.0], [100.0, 199.5], [30.0, 60.0], [100.0, 100.0]])
    rays = fisheye_rays(focal, 200, 200)(pixels)
    assert rays[0, 2] < 0 and rays[1, 2] < 0
    np.testing.assert_allclose(lens.pixels(rays), pixels, atol=1e-6)
    np.testing.assert_allclose(np.degrees(lens.half_angles()), 97.5, atol=0.5)


def test_a_polynomial_that_turns_back_shows_nothing_twice() -> None:
    """r = a - 0.2 a^3 has its maximum at 74 degrees; rays beyond it would have the pixels of others."""
    lens = Lens(OPENCV_FISHEYE, (100, 100, 200, 200, -0.2, 0, 0, 0), 400, 400)
    angles = np.radians([60.0, 73.0, 76.0, 100.0])
    seen = lens.pixels(np.stack([np.sin(angles), np.zeros(4), np.cos(angles)], axis=1))
    assert np.isfinite(seen).all(axis=1).tolist() == [True, True, False, False]


def test_nothing_is_seen_outside_the_image_circle() -> None:
    lens = Lens(OPENCV_FISHEYE, (60, 60, 100, 100, 0, 0, 0, 0), 200, 200, circle=90)
    rays = np.array([[np.sin(1.4), 0, np.cos(1.4)], [np.sin(1.6), 0, np.cos(1.6)]])  # 84 and 96 pixels
    assert np.isfinite(lens.pixels(rays)).all(axis=1).tolist() == [True, False]
