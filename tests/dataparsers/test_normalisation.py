# SPDX-License-Identifier: Apache-2.0
"""Normalisation changes where the world's origin is and nothing else, and can be undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.data.dataparsers.base_dataparser import transform_poses_to_original_space

from img3d_dataparsers.normalisation import CenterMethod, normalise
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.posed_photos import OrientationMethod

orientation_methods = st.sampled_from(["pca", "up", "vertical", "none"])
center_methods = st.sampled_from(["poses", "focus", "none"])


@st.composite
def poses(draw: st.DrawFn) -> np.ndarray:
    """Cameras all around something, at any place and scale; OpenGL axes."""
    seed = draw(st.integers(0, 2**32 - 1))
    count = draw(st.integers(3, 12))
    rng = np.random.default_rng(seed)
    target = rng.normal(size=3)
    origins = target + rng.normal(size=(count, 3)) * [3, 3, 1] + [0, 0, 2]
    back = origins - target
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    right = np.cross(rng.normal(size=(count, 3)) * 0.2 + [0, 0.1, 1], back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    camera_to_worlds = np.tile(np.eye(4), (count, 1, 1))
    camera_to_worlds[:, :3, :3] = np.stack([right, np.cross(back, right), back], axis=-1)
    camera_to_worlds[:, :3, 3] = origins * draw(st.sampled_from([1e-3, 1.0, 1e3])) + draw(st.sampled_from([0.0, 1e4]))
    return camera_to_worlds


@settings(deadline=None, max_examples=60)
@given(poses(), orientation_methods, center_methods, st.booleans(), st.sampled_from([1.0, 0.3]))
def test_original_poses_come_back(
    original: np.ndarray,
    orientation: OrientationMethod,
    center: CenterMethod,
    auto_scale: bool,
    scale_factor: float,
) -> None:
    normalised, transform, scale = normalise(original.copy(), orientation, center, auto_scale, scale_factor)
    back = transform_poses_to_original_space(
        torch.from_numpy(normalised), torch.from_numpy(transform), scale, camera_convention="opengl"
    ).numpy()
    extent = np.abs(original[:, :3, 3]).max()
    np.testing.assert_allclose(back[:, :, :3], original[:, :3, :3], rtol=0, atol=1e-12)
    np.testing.assert_allclose(back[:, :, 3], original[:, :3, 3], atol=1e-12 * extent)


@settings(deadline=None, max_examples=60)
@given(poses(), orientation_methods, center_methods)
def test_shape_of_the_capture_stays(original: np.ndarray, orientation: OrientationMethod, center: CenterMethod) -> None:
    normalised, transform, scale = normalise(original.copy(), orientation, center, True, 1.0)
    rotations = normalised[:, :, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (len(rotations), 1, 1)), rtol=0, atol=1e-12
    )
    assert np.linalg.det(transform[:, :3]) == pytest.approx(1, abs=1e-12), "no mirror image"

    def distances(origins: np.ndarray) -> np.ndarray:
        return np.linalg.norm(origins[:, None] - origins[None], axis=-1)

    before, after = distances(original[:, :3, 3]) * scale, distances(normalised[:, :, 3])
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-8)


@settings(deadline=None, max_examples=50)
@given(poses(), orientation_methods)
def test_cameras_fill_the_unit_cube(original: np.ndarray, orientation: OrientationMethod) -> None:
    normalised, _, _ = normalise(original, orientation, "poses", True, 1.0)
    origins = normalised[:, :, 3]
    assert np.abs(origins).max() == pytest.approx(1)
    np.testing.assert_allclose(origins.mean(axis=0), 0, atol=2e-7)  # Nerfstudio centres in float32


def test_up_is_up(tiny_scene: Path) -> None:
    outputs = Img3dPhotosDataParserConfig(data=tiny_scene).setup().get_dataparser_outputs()
    mean_up = outputs.cameras.camera_to_worlds[:, :, 1].mean(dim=0)
    assert mean_up[2] > 0.5
    assert mean_up[:2].norm() < 0.1


@pytest.mark.parametrize("center", ["poses", "none"])
def test_a_known_up_becomes_z(center: CenterMethod) -> None:
    rng = np.random.default_rng(0)
    original = np.tile(np.eye(4), (5, 1, 1))
    original[:, :3, 3] = rng.normal(size=(5, 3))
    up = np.array([0.6, 0.0, 0.8])
    normalised, transform, scale = normalise(original.copy(), "up", center, True, 1.0, up)
    np.testing.assert_allclose(transform[:, :3] @ up, [0, 0, 1], atol=1e-9)
    back = normalised[:, :, 3] / scale - transform[:, 3]
    np.testing.assert_allclose(back @ transform[:, :3], original[:, :3, 3], rtol=0, atol=1e-12)
    asked = normalise(original.copy(), "none", center, True, 1.0, up)[1]
    np.testing.assert_allclose(asked[:, :3], np.eye(3), atol=1e-9)


def test_georeferenced_captures_keep_their_precision() -> None:
    """In UTM coordinates (millions of metres) single precision is half a metre."""
    rng = np.random.default_rng(0)
    original = np.tile(np.eye(4), (20, 1, 1))
    original[:, :3, 3] = rng.normal(size=(20, 3)) + [500_000.0, 5_400_000.0, 300.0]
    normalised, _, scale = normalise(original.copy(), "up", "poses", True, 1.0)
    before = np.linalg.norm(original[1:, :3, 3] - original[0, :3, 3], axis=-1)
    after = np.linalg.norm(normalised[1:, :, 3] - normalised[0, :, 3], axis=-1)
    np.testing.assert_allclose(after / scale, before, rtol=0, atol=1e-8)  # of 5e6 in double precision


@pytest.mark.parametrize(("applied_scale", "far"), [(1.0, 0.0), (0.25, 0.0), (1.0, 5.4e6)])
@pytest.mark.parametrize("orientation", ["pca", "up", "vertical", "none"])
@pytest.mark.parametrize("center", ["poses", "focus", "none"])
def test_outputs_lead_back_to_the_original_capture(
    copy_scene: Callable[[], Path],
    orientation: OrientationMethod,
    center: CenterMethod,
    applied_scale: float,
    far: float,
) -> None:
    """The file's poses were themselves derived from a capture, by its applied_transform and applied_scale."""
    if far and center == "none":
        pytest.skip("then the origin stays millions of metres away")
    scene = copy_scene()
    meta: dict[str, Any] = json.loads((scene / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["transform_matrix"][0][3] += far / 10
        frame["transform_matrix"][1][3] += far
    in_file = np.array([frame["transform_matrix"] for frame in meta["frames"]])
    applied = np.array([[0.0, 0, 1, 3], [1, 0, 0, -2], [0, 1, 0, 0.5]])
    meta.update(applied_transform=applied.tolist(), applied_scale=applied_scale)
    (scene / "transforms.json").write_text(json.dumps(meta))

    capture = in_file[:, :3].copy()
    capture[:, :, 3] = (in_file[:, :3, 3] / applied_scale - applied[:, 3]) @ applied[:, :3]
    capture[:, :, :3] = applied[:, :3].T @ in_file[:, :3, :3]

    config = Img3dPhotosDataParserConfig(
        data=scene, orientation_method=orientation, center_method=center, eval_mode="all"
    )
    outputs = config.setup().get_dataparser_outputs()
    back = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, camera_convention="opengl")
    np.testing.assert_allclose(back.numpy(), capture, rtol=0, atol=5e-7 / applied_scale)  # float32
