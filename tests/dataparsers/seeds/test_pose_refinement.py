# SPDX-License-Identifier: Apache-2.0
"""Poses that the photos contradict are corrected, once for all runs; others stay as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corner_scene import NUM_PHOTOS, camera_to_world, make_scene, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.seeds import refinement
from img3d_dataparsers.seeds.refinement import _turned_like
from img3d_dataparsers.seeds.triangulation import misfit, moved_world_to_cameras

DEGREES = 1.0
"""By which each camera is turned about an axis of its own: 4 pixels of these small photos."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("wrong") / "scene", {})


@pytest.fixture
def scene(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose cameras are turned."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    folder = Path(shutil.copytree(made, tmp_path / "scene"))
    meta = json.loads((folder / "transforms.json").read_text())
    rng = np.random.default_rng(4)
    for frame in meta["frames"]:
        pose, axis = np.array(frame["transform_matrix"]), rng.normal(size=3)
        turn = Rotation.from_rotvec(np.radians(DEGREES) * axis / np.linalg.norm(axis)).as_matrix()
        pose[:3, :3] = turn @ pose[:3, :3]
        frame["transform_matrix"] = pose.tolist()
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def errors(folder: Path, split: str = "train", **options: Any) -> tuple[FloatArray, FloatArray]:
    """Degrees by which cameras are off, and the distances of their places from the right ones."""
    outputs = parse(folder, split, **options)
    poses = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds, "opengl").numpy()
    right = np.stack([camera_to_world(int(path.stem)) for path in outputs.image_filenames])
    turns = Rotation.from_matrix(poses[:, :3, :3] @ np.swapaxes(right[:, :3, :3], 1, 2))
    return np.degrees(turns.magnitude()), np.linalg.norm(poses[:, :3, 3] - right[:, :3, 3], axis=1)


def test_wrong_poses_are_corrected(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turned, moved = errors(scene)
    # What remains is common to all: the mean of the errors.
    assert turned.max() < 0.6 * DEGREES and moved.max() < 0.05
    lines = capsys.readouterr().out
    assert "correcting them (once; --refine-poses False keeps them as they are)" in lines
    assert "Poses corrected: they fit to 0." in lines


def test_held_out_photos_are_corrected_with_the_others(scene: Path) -> None:
    errors(scene)
    turned, _ = errors(scene, "val")
    assert turned.max() < 0.6 * DEGREES


def test_later_runs_have_the_same_poses(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = errors(scene)
    monkeypatch.setattr(refinement, "refine_poses", lambda *_: pytest.fail("they were corrected again"))
    capsys.readouterr()
    np.testing.assert_array_equal(errors(scene), before)
    assert "Poses corrected by an earlier run" in capsys.readouterr().out


def test_a_damaged_file_of_poses_is_made_again(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = errors(scene)
    (kept,) = (scene / ".img3d").glob("refined_poses-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    capsys.readouterr()
    np.testing.assert_allclose(errors(scene), before, atol=1e-6)
    assert "the poses are corrected again" in capsys.readouterr().out


def test_poses_are_kept_as_given_if_wanted(scene: Path) -> None:
    turned, moved = errors(scene, refine_poses=False)
    np.testing.assert_allclose(turned, DEGREES, rtol=1e-3)
    assert moved.max() < 1e-5


def test_exact_poses_are_left_alone(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "exact"))
    turned, _ = errors(folder)
    assert turned.max() < 1e-3 and "correct" not in capsys.readouterr().out
    assert not list((folder / ".img3d").glob("refined_poses-*"))


def test_poses_that_cannot_be_corrected_stay_and_one_line_says_so(
    scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(refinement, "_adjusted", lambda tracks, points, K, world_to_cameras: world_to_cameras)
    turned, _ = errors(scene)
    np.testing.assert_allclose(turned, DEGREES, rtol=1e-3)
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert "could not be corrected" in warning


@pytest.mark.parametrize("num_wrong", [0, 100, 600])
@pytest.mark.parametrize("error", [0.3, 2.0, 4.0])
def test_wrong_matches_do_not_count_in_how_well_poses_fit(error: float, num_wrong: int) -> None:
    """Of the wrong ones, whose errors reach 60 pixels, a third is within the 20 that are looked at."""
    rng = np.random.default_rng(0)
    right, wrong = np.abs(rng.normal(0, error / 0.6745, 400)), rng.uniform(0, 60, num_wrong)
    assert misfit([right[:200], np.concatenate([wrong, right[200:]])]) == pytest.approx(error, rel=0.2)


def test_wrong_matches_alone_say_nothing_of_the_poses() -> None:
    assert misfit([np.random.default_rng(0).uniform(0, 60, 1000)]) == 0
    assert misfit([]) == 0


@given(
    turn=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    shift=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    scale=st.floats(0.2, 5),
    on_a_line=st.booleans(),
)
@settings(deadline=None)
def test_cameras_return_from_any_similar_world(
    turn: list[float], shift: list[float], scale: float, on_a_line: bool
) -> None:
    cameras = np.stack([camera_to_world(i) for i in range(NUM_PHOTOS)])
    if on_a_line:
        cameras[:, :3, 3] = np.linspace(-1, 1, NUM_PHOTOS)[:, None] * [1.0, 0.5, 0.2]
    given_cameras = moved_world_to_cameras(cameras, np.zeros(3), 1.0)
    R = Rotation.from_rotvec(turn).as_matrix()
    # x' = scale R x + shift in the other world.
    rotations = given_cameras[:, :, :3] @ R.T
    other = scale * given_cameras[:, :, 3] - rotations @ np.array(shift)
    found = _turned_like(np.concatenate([rotations, other[..., None]], axis=2), given_cameras)
    np.testing.assert_allclose(found, given_cameras, atol=1e-6)
