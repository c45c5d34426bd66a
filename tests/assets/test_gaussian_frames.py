# SPDX-License-Identifier: Apache-2.0
"""Splats in the frame of the capture look, to the capture's cameras, as they did to the normalised ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from splat_scenes import colorful_splats, psnr, render

from img3d_assets.gaussian_frames import in_original_frame, rotated_harmonics
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_methods.viewing.initial_view import InitialView

ABOVE = np.array([0.0, 0, 1])


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_picture_from_the_original_camera(sh_degree: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    translation, scale = rng.normal(size=3), float(rng.uniform(0.05, 5))
    splats = colorful_splats(sh_degree=sh_degree)
    view = InitialView(np.array([0.5, -4.0, 1.2]), np.array([0.1, 0.0, -0.1]), 50.0)
    expected, _ = render(splats, view, ABOVE, 96, 72, (0.2, 0.3, 0.4), sh_degree)

    transform = np.concatenate([rotation, translation[:, None]], axis=1)
    original = in_original_frame(splats, transform, scale)
    there = [rotation.T @ (point / scale - translation) for point in (view.position, view.target)]
    picture, _ = render(
        original, InitialView(there[0], there[1], 50.0), rotation.T @ ABOVE, 96, 72, (0.2, 0.3, 0.4), sh_degree
    )
    assert psnr(picture, expected, np.ones((72, 96), bool)) > 45


@given(seed=st.integers(0, 2**32 - 1), mirrored=st.booleans(), degree=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_colours_turn_with_the_scene(seed: int, mirrored: bool, degree: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix() * (-1 if mirrored else 1)
    coefficients = rng.normal(size=((degree + 1) ** 2 - 1, 3))
    directions = rng.normal(size=(20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def colours(towards: np.ndarray, of: np.ndarray) -> np.ndarray:
        return sh_basis(degree, torch.from_numpy(towards)).numpy()[:, 1:] @ of

    turned = rotated_harmonics(rotation, degree) @ coefficients
    np.testing.assert_allclose(colours(directions @ rotation.T, turned), colours(directions, coefficients), atol=1e-9)


def test_a_mirrored_frame_mirrors_the_shapes() -> None:
    splats = colorful_splats(50)
    mirror = np.concatenate([np.diag([1.0, 1.0, -1.0]), np.zeros((3, 1))], axis=1)
    mirrored = in_original_frame(splats, mirror, 1.0)

    def covariances(quats: np.ndarray, log_scales: np.ndarray) -> np.ndarray:
        factors = Rotation.from_quat(quats, scalar_first=True).as_matrix() * np.exp(log_scales)[:, None, :]
        return factors @ factors.transpose(0, 2, 1)

    expected = mirror[:, :3] @ covariances(splats.quats, splats.log_scales) @ mirror[:, :3]
    np.testing.assert_allclose(covariances(mirrored.quats, mirrored.log_scales), expected, atol=1e-6)
    np.testing.assert_allclose(mirrored.means, splats.means * [1, 1, -1])


def test_a_frame_far_away_keeps_the_shape() -> None:
    """As georeferenced poses have it: millions of metres from the origin, where single precision has steps of half."""
    splats = colorful_splats(100, 0)
    place = np.array([432_100.5, 5_412_345.25, 312.0])
    transform = np.concatenate([np.eye(3), -place[:, None]], axis=1)
    original = in_original_frame(splats, transform, 0.5)
    expected = splats.means.astype(np.float64) / 0.5 + place
    np.testing.assert_allclose(original.means + np.array(original.origin), expected, rtol=0, atol=1e-6)
