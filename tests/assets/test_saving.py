# SPDX-License-Identifier: Apache-2.0
"""Assets as a library's user has them: saved in the format of the ending, with the right axis up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_assets.field import Field
from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians, gaussians_of_parameters, parameters_of_gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.splat_files import read_splats
from img3d_base.errors import InputError
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds

HEIGHT = 0.5


def upright(count: int = 50, sh_count: int = 0) -> Gaussians:
    """Gaussians around a point above the origin, y up."""
    random = np.random.default_rng(0)
    return Gaussians(
        means=(random.uniform(-0.1, 0.1, (count, 3)) + (0.2, HEIGHT, 0.3)).astype(np.float32),
        quats=random.normal(size=(count, 4)).astype(np.float32),
        log_scales=random.uniform(-4, -3, (count, 3)).astype(np.float32),
        opacities=random.uniform(-2, 4, count).astype(np.float32),
        sh_dc=random.normal(size=(count, 3)).astype(np.float32),
        sh_rest=random.normal(0, 0.2, (count, sh_count, 3)).astype(np.float32),
        up="y",
    )


@pytest.mark.parametrize("ending", [".ply", ".splat", ".spz", ".compressed.ply"])
def test_gaussians_with_y_up_are_upright_in_every_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"made/of{ending}"
    assert upright().save(str(path)) == 50
    splats, up = read_splats(path)
    assert up is not None
    axis = {"y": (0, 1, 0), "-y": (0, -1, 0), "z": (0, 0, 1)}[up]
    assert (splats.means @ np.array(axis)).mean() == pytest.approx(HEIGHT, abs=0.05)


def test_saving_twice_replaces_the_file_and_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    upright().save(tmp_path / "a.ply")
    upright(10).save(tmp_path / "a.ply")
    assert len(read_splats(tmp_path / "a.ply")[0]) == 10
    with pytest.raises(InputError, match=r"\.splat"):
        upright().save(tmp_path / "a.doc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ply"]


def test_turning_forgets_which_axis_is_up() -> None:
    assert rotated(upright(), np.eye(3)).up is None


@pytest.mark.parametrize("up", ["y", "z"])
def test_a_mesh_is_upright_where_the_format_prescribes_an_axis(tmp_path: Path, up: str) -> None:
    top = {"y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}[up]
    vertices = np.array([top, (0.1, 0, 0), (0, 0, 0) if up == "y" else (0, 0.1, 0)])
    mesh = Mesh(vertices, np.array([[0, 1, 2]]), np.ones((3, 3), np.float32), up=up)  # pyright: ignore[reportArgumentType]
    mesh.save(tmp_path / "a.glb")
    mesh.save(str(tmp_path / "a.stl"))
    scene = trimesh.load(tmp_path / "a.glb", force="mesh")
    assert np.asarray(scene.vertices)[:, 1].max() == pytest.approx(1)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match=r"\.glb"):
        mesh.save(tmp_path / "a.doc")


@pytest.mark.parametrize("sh_count", [0, 3])
def test_activations_and_back_change_nothing(sh_count: int) -> None:
    splats = upright(sh_count=sh_count)
    splats.quats /= np.linalg.norm(splats.quats, axis=1, keepdims=True)
    again = ActivatedGaussians.of(splats).asset(up="y")
    assert again.up == "y"
    for name in ("means", "quats", "log_scales", "opacities", "sh_dc", "sh_rest"):
        np.testing.assert_allclose(getattr(again, name), getattr(splats, name), atol=1e-4, err_msg=name)


def test_harmonics_are_drawn() -> None:
    poses = orbit_camera_to_worlds([0, 180], [0, 0], LGM_RADIUS)
    with_harmonics = upright(sh_count=3)
    drawn, _ = ActivatedGaussians.of(with_harmonics).render(poses, LGM_FOV, 32)
    with_harmonics.sh_rest[:] = 0
    plain, _ = ActivatedGaussians.of(with_harmonics).render(poses, LGM_FOV, 32)
    assert (drawn - plain).abs().max() > 0.02


@pytest.mark.parametrize(("sh_degree", "sh_count"), [(0, 3), (1, 3), (3, 3), (1, 0)])
def test_a_model_s_parameters_and_back(sh_degree: int, sh_count: int) -> None:
    splats = upright(sh_count=sh_count)
    splats.sh_dc *= 0.3
    parameters = parameters_of_gaussians(splats, sh_degree)
    assert parameters["features_rest"].shape[1:] == ({0: 0, 1: 3, 3: 15}[sh_degree], 3)
    again = gaussians_of_parameters(parameters, sh_degree)
    kept = min(sh_count, again.sh_rest.shape[1])
    for name in ("means", "quats", "log_scales", "opacities", "sh_dc"):
        np.testing.assert_allclose(getattr(again, name), getattr(splats, name), atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(again.sh_rest[:, :kept], splats.sh_rest[:, :kept])
    assert not again.sh_rest[:, kept:].any()


def test_what_answers_the_four_questions_is_a_field() -> None:
    class Ball:
        bounds = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
        up = "y"
        surface_density = 0.5

        def query(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return (points.norm(dim=1) < 1).float(), torch.ones_like(points)

    assert isinstance(Ball(), Field)
    assert not isinstance(upright(), Field)
