# SPDX-License-Identifier: Apache-2.0
"""transforms.json beside a COLMAP model: its points are used where they belong, whoever made the one of the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_scene import FloatArray, KnownCamera, cameras_of, write_photo
from scipy.spatial.transform import Rotation
from test_colmap import POINTS, write_model

from img3d_dataparsers.formats.transforms_json import LEGACY_APPLIED_TRANSFORM, read_transforms

TURNED = Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix()
COLMAP2NERF = 3.7 * TURNED, np.array([0.5, -2.0, 9.0])
"""Turned, scaled and shifted, as Instant-NGP's converter does it."""


@pytest.fixture
def cameras() -> list[KnownCamera]:
    return cameras_of(np.random.default_rng(3), 6)


def write_both(
    folder: Path,
    cameras: list[KnownCamera],
    linear: FloatArray,
    shift: FloatArray,
    name: Callable[[int], str] = lambda i: f"{i}.png",
    **meta: Any,
) -> Path:
    """A model of the cameras, and their poses after a similarity."""
    write_model(folder / "sparse/0", [f"{i}.png" for i in range(len(cameras))], cameras)
    scale = np.cbrt(abs(np.linalg.det(linear)))
    frames = []
    for i, camera in enumerate(cameras):
        write_photo(folder / "images" / name(i))
        pose = np.eye(4)
        pose[:3, :3] = linear @ camera.opengl_to_world[:3, :3] / scale
        pose[:3, 3] = linear @ camera.centre + shift
        frames.append({"file_path": f"images/{name(i)}", "transform_matrix": np.round(pose, 7).tolist()})
    path = folder / "transforms.json"
    path.write_text(json.dumps({"fl_x": 60, "w": 64, "h": 48, **meta, "frames": frames}))
    return path


def test_points_follow_the_cameras(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    linear, shift = COLMAP2NERF
    posed = read_transforms(write_both(tmp_path, cameras, linear, shift))
    points = posed.read_seed_points()
    assert points is not None
    np.testing.assert_allclose(points[0], POINTS @ linear.T + shift, rtol=0, atol=1e-6)  # poses have seven digits
    np.testing.assert_array_equal(posed.applied_transform, np.eye(4)[:3])


@pytest.mark.parametrize("prefix", ["", "left/"])
def test_photos_are_the_same_whatever_their_folder_and_suffix(
    tmp_path: Path, cameras: list[KnownCamera], prefix: str
) -> None:
    linear, shift = COLMAP2NERF
    posed = read_transforms(write_both(tmp_path, cameras, linear, shift, lambda i: f"{prefix}{i}.JPG"))
    points = posed.read_seed_points()
    assert points is not None
    np.testing.assert_allclose(points[0], POINTS @ linear.T + shift, rtol=0, atol=1e-6)  # poses have seven digits


def test_old_files_of_ns_process_data_are_known(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    linear, shift = LEGACY_APPLIED_TRANSFORM[:, :3], LEGACY_APPLIED_TRANSFORM[:, 3]
    posed = read_transforms(write_both(tmp_path, cameras, linear, shift))
    points = posed.read_seed_points()
    assert points is not None
    np.testing.assert_array_equal(points[0], POINTS @ linear.T)
    np.testing.assert_array_equal(posed.applied_transform, LEGACY_APPLIED_TRANSFORM)


def test_what_a_file_says_of_its_world_is_kept_where_it_fits(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    applied = np.column_stack([TURNED, [3.0, 4.0, 5.0]])
    path = write_both(
        tmp_path, cameras, 0.5 * TURNED, 0.5 * applied[:, 3], applied_transform=applied.tolist(), applied_scale=0.5
    )
    points = read_transforms(path).read_seed_points()
    assert points is not None
    np.testing.assert_allclose(points[0], 0.5 * (POINTS @ TURNED.T + applied[:, 3]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("applied", [None, np.eye(4).tolist()])
def test_a_model_of_other_cameras_gives_no_points(
    tmp_path: Path, cameras: list[KnownCamera], capsys: pytest.CaptureFixture[str], applied: Any
) -> None:
    path = write_both(tmp_path, cameras, *COLMAP2NERF, applied_transform=applied)
    write_model(tmp_path / "sparse/0", [f"{i}.png" for i in range(6)], cameras_of(np.random.default_rng(4), 6))
    assert read_transforms(path).read_seed_points() is None
    [warning] = capsys.readouterr().out.splitlines()
    assert "has other cameras than transforms.json, so its points are not used" in warning


def test_of_several_models_the_one_that_fits(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    linear, shift = COLMAP2NERF
    path = write_both(tmp_path, cameras, linear, shift)
    others = cameras_of(np.random.default_rng(4), 9)
    write_model(tmp_path / "sparse/1", [f"{i}.png" for i in range(9)], others, 7 * POINTS)
    points = read_transforms(path).read_seed_points()
    assert points is not None
    np.testing.assert_allclose(points[0], POINTS @ linear.T + shift, rtol=0, atol=1e-6)  # poses have seven digits


@pytest.mark.parametrize(("applied", "used"), [(None, False), (np.eye(4).tolist(), True)])
def test_names_that_tell_nothing(tmp_path: Path, cameras: list[KnownCamera], applied: Any, used: bool) -> None:
    """Then only what the file says of its world is believed."""
    path = write_both(
        tmp_path, cameras, np.eye(3), np.zeros(3), lambda i: f"renamed {i}.png", applied_transform=applied
    )
    assert (read_transforms(path).read_seed_points() is not None) == used


def test_damaged_poses_among_others(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    cameras = cameras + cameras_of(np.random.default_rng(5), 8)
    linear, shift = COLMAP2NERF
    path = write_both(tmp_path, cameras, linear, shift)
    meta = json.loads(path.read_text())
    meta["frames"][0]["transform_matrix"] = [[1, 2], [3, 4]]
    meta["frames"][1]["transform_matrix"][0][3] = float("nan")
    meta["frames"][2]["transform_matrix"][0][3] += 100.0
    path.write_text(json.dumps(meta))
    points = read_transforms(path).read_seed_points()
    assert points is not None
    np.testing.assert_allclose(points[0], POINTS @ linear.T + shift, rtol=0, atol=1e-6)  # poses have seven digits
