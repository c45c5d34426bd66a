# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat --clean`: of a run, whose cameras it uses if its photos are there, and of a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from export_commands import run_export
from gaussian_scenes import looking_at, small_model
from nerfstudio.cameras.cameras import Cameras, CameraType
from splat_scenes import colorful_splats
from test_run_splats import TRANSFORM, state_of, write_run

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_files import read_splats
from img3d_exporters import load_run
from img3d_methods.viewing.viewpoints import viewpoints_of


def photographed(**options: object) -> Cameras:
    poses = [looking_at((3.0, 0.0, 0.5)), looking_at((-2.0, 2.0, 1.0))]
    values = {"fx": 50.0, "fy": 44.0, "cx": 25.5, "cy": 18.0, "width": 48, "height": 40, **options}
    return Cameras(camera_to_worlds=torch.stack(poses), **values)  # pyright: ignore[reportArgumentType]


def test_viewpoints_see_what_the_cameras_see() -> None:
    cameras = photographed()
    seen = viewpoints_of(cameras)
    assert np.allclose(seen.positions, [[3, 0, 0.5], [-2, 2, 1]])
    corners = torch.tensor([[0.0, 0.0], [40.0, 48.0]])  # rows and columns
    for camera in range(2):
        rays = cameras.generate_rays(camera, coords=corners).directions.numpy() @ seen.rotations[camera].T
        assert (rays[:, 2] > 0).all()
        assert np.allclose((rays[:, :2] / rays[:, 2:]).T.ravel(), seen.slopes[camera], atol=1e-5)
    assert np.isinf(viewpoints_of(photographed(camera_type=CameraType.FISHEYE)).slopes).all()


def with_floaters() -> Gaussians:
    """Six floaters behind 1,500 others."""
    far = colorful_splats(6)
    far.means = 8 * far.means / np.linalg.norm(far.means, axis=1, keepdims=True)
    return Gaussians.joined([colorful_splats(1500), far])


def test_a_file_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with_floaters().save(tmp_path / "all.ply")
    both = {"monkeypatch": monkeypatch, "capsys": capsys}
    said = run_export("splat", "--input", tmp_path / "all.ply", "--output", tmp_path / "a.ply", "--clean", **both)
    assert "Cleaned away 6 of 1,506 Gaussians (6 isolated)." in said
    assert np.abs(read_splats(tmp_path / "a.ply")[0].means).max() < 2
    run_export("splat", "--input", tmp_path / "all.ply", "--output", tmp_path / "b.ply", **both)
    assert len(read_splats(tmp_path / "b.ply")[0]) == 1506


@pytest.mark.parametrize("original", [False, True])
def test_a_run_is_cleaned_by_its_cameras_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], original: bool
) -> None:
    model = small_model(num_points=3000)
    model.means.data[:5] = torch.tensor([4.0, 0, 0.5])  # behind a camera
    run, output = write_run(tmp_path, state_of(model)), tmp_path / "a.ply"
    command = ["splat", "--load-config", run, "--output", output, "--clean", "--force"]
    command += ["--original-frame"] if original else []
    both = {"monkeypatch": monkeypatch, "capsys": capsys}
    said = " ".join(run_export(*command, **both).split())
    assert "ignores what the cameras look at: this run was trained on" in said and "Cleaned away" in said
    (tmp_path / "gone").mkdir()
    cameras = photographed()[:1]
    monkeypatch.setattr(load_run, "load_run", lambda path: SimpleNamespace(cameras=cameras))
    said = run_export(*command, **both)
    assert "seen by no camera" in said and "does not count" not in said
    means = read_splats(output)[0].means.astype(float)
    transform = np.array(TRANSFORM)
    if original:
        means = 0.5 * (means @ transform[:, :3].T + transform[:, 3])
    assert np.abs(means - [4, 0, 0.5]).max(axis=1).min() > 0.5
