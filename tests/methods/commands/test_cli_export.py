# SPDX-License-Identifier: Apache-2.0
"""`ns-export` in all its forms, as typed, on a trained splat run; the files are read by other programs' libraries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import TrainedRun
from plyfile import PlyData
from scipy.spatial import KDTree

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_kernels import rasterization
from img3d_kernels.poses import viewmats

pytestmark = pytest.mark.slow


def to_scene(points: np.ndarray, run: TrainedRun) -> np.ndarray:
    """Points of an export in the tiny scene's own frame and units (the ball's radius is 0.5)."""
    transform = json.loads((run.folder / "dataparser_transforms.json").read_text())
    matrix = np.array(transform["transform"])
    return (points / transform["scale"] - matrix[:, 3]) @ matrix[:, :3]  # a rotation's inverse is its transpose


def distance_to_the_scene(points: np.ndarray, run: TrainedRun) -> np.ndarray:
    """How far points of an export are from the tiny scene's ball and square."""
    world = to_scene(points, run)
    to_ball = np.abs(np.linalg.norm(world - [0, 0, 0.5], axis=-1) - 0.5)
    beyond = np.maximum(np.abs(world[:, :2]) - 1.5, 0)
    to_square = np.linalg.norm(np.concatenate([beyond, world[:, 2:]], axis=-1), axis=-1)
    return np.minimum(to_ball, to_square)


def is_solid(colors: np.ndarray) -> np.ndarray:
    """Whether something has a colour of the ball or the square: not the sky's, which has no place in space, nor the
    black of what a TSDF never saw."""
    return (np.abs(colors - [0.75, 0.85, 0.95]).max(axis=-1) > 0.2) & (colors.max(axis=-1) > 0.1)


def gaussians_of_file(path: Path) -> dict[str, torch.Tensor]:
    """What another program reads from a splat file, for the rasteriser."""
    vertices = PlyData.read(path)["vertex"]

    def columns(*names: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(vertices[name], dtype=np.float32) for name in names], axis=-1))

    # The convention of the 3DGS paper's own files: log scales, logit opacities, quaternions wxyz, and coefficients
    # with all of one colour's together.
    rest = columns(*(f"f_rest_{i}" for i in range(45))).reshape(-1, 3, 15).transpose(1, 2)
    return dict(
        means=columns("x", "y", "z"),
        quats=columns("rot_0", "rot_1", "rot_2", "rot_3"),
        scales=columns("scale_0", "scale_1", "scale_2").exp(),
        opacities=columns("opacity")[:, 0].sigmoid(),
        colors=torch.cat([columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None], rest], dim=1).contiguous(),
    )


def gaussians_of_model(run: TrainedRun) -> dict[str, torch.Tensor]:
    state = torch.load(run.checkpoint, weights_only=True)["pipeline"]

    def parameter(name: str) -> torch.Tensor:
        return state[f"_model.gauss_params.{name}"]

    return dict(
        means=parameter("means"),
        quats=parameter("quats"),
        scales=parameter("scales").exp(),
        opacities=parameter("opacities")[:, 0].sigmoid(),
        colors=torch.cat([parameter("features_dc")[:, None], parameter("features_rest")], dim=1),
    )


def assert_looks_the_same(run: TrainedRun, from_file: dict[str, torch.Tensor], camera_to_worlds: torch.Tensor) -> None:
    """Compares a file, seen by these cameras `[C, 3, 4]` of the training photos, with the model seen by its own."""
    cameras = Img3dPhotosDataParserConfig(data=run.data).setup().get_dataparser_outputs("train").cameras
    cameras.rescale_output_resolution(4)
    of_model = gaussians_of_model(run)
    for index in (0, 5, 9):
        images = [
            rasterization(
                **gaussians,
                viewmats=viewmats(poses[index : index + 1]),
                Ks=cameras.get_intrinsics_matrices()[index : index + 1],
                width=256,
                height=192,
                sh_degree=3,
            )[0]
            for gaussians, poses in ((from_file, camera_to_worlds), (of_model, cameras.camera_to_worlds))
        ]
        assert float(images[1].std()) > 0.1
        error = ((images[0] - images[1]) ** 2).mean()
        assert float(-10 * torch.log10(error.clamp_min(1e-12))) >= 45


def test_gaussian_splat_looks_the_same_in_another_reader(trained_run: TrainedRun, tmp_path: Path) -> None:
    export = ("ns-export", "gaussian-splat", "--load-config", trained_run.config, "--output-dir", tmp_path)
    trained_run.cli.succeed(*export)
    cameras = Img3dPhotosDataParserConfig(data=trained_run.data).setup().get_dataparser_outputs("train").cameras
    assert_looks_the_same(trained_run, gaussians_of_file(tmp_path / "splat.ply"), cameras.camera_to_worlds)


def test_the_original_frame_is_that_of_the_photos_own_poses(trained_run: TrainedRun, tmp_path: Path) -> None:
    export = ("img3d-export", "splat", "--load-config", trained_run.config, "--output", tmp_path / "splat.ply")
    trained_run.cli.succeed(*export, "--original-frame")
    frames = json.loads((trained_run.data / "transforms.json").read_text())["frames"]
    outputs = Img3dPhotosDataParserConfig(data=trained_run.data).setup().get_dataparser_outputs("train")
    poses = {Path(frame["file_path"]).name: frame["transform_matrix"] for frame in frames}
    own = torch.tensor([poses[path.name] for path in outputs.image_filenames])[:, :3]
    assert not torch.allclose(own, outputs.cameras.camera_to_worlds, atol=0.1), "normalised"
    assert_looks_the_same(trained_run, gaussians_of_file(tmp_path / "splat.ply"), own)


def test_pointcloud_lies_on_the_scene(trained_run: TrainedRun, tmp_path: Path) -> None:
    import open3d

    trained_run.cli.succeed(
        *("ns-export", "pointcloud", "--load-config", trained_run.config, "--output-dir", tmp_path),
        *("--num-points", 20_000),
    )
    cloud = open3d.io.read_point_cloud(str(tmp_path / "point_cloud.ply"))
    points, normals, colors = np.asarray(cloud.points), np.asarray(cloud.normals), np.asarray(cloud.colors)
    assert len(points) > 10_000
    solid = is_solid(colors)
    assert solid.mean() > 0.2
    assert np.median(distance_to_the_scene(points[solid], trained_run)) < 0.1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=0.05)


@pytest.mark.long
def test_poisson_gives_a_mesh_of_the_scene(trained_run: TrainedRun, tmp_path: Path) -> None:
    import open3d

    result = trained_run.cli.succeed(
        *("ns-export", "poisson", "--load-config", trained_run.config, "--output-dir", tmp_path),
        *("--num-points", 20_000),
    )
    assert torch.cuda.is_available() or "--texture-method point_cloud" in result.output
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "poisson_mesh.ply"))
    assert len(mesh.triangles) > 1000
    solid = is_solid(np.asarray(mesh.vertex_colors))
    assert solid.sum() > 300
    assert np.median(distance_to_the_scene(np.asarray(mesh.vertices)[solid], trained_run)) < 0.2


@pytest.mark.long
def test_tsdf_gives_a_mesh_of_the_scene(trained_run: TrainedRun, tmp_path: Path) -> None:
    import open3d

    result = trained_run.cli.succeed(
        *("ns-export", "tsdf", "--load-config", trained_run.config, "--output-dir", tmp_path),
        *("--resolution", 64, "--downscale-factor", 1),
    )
    assert torch.cuda.is_available() or "--texture-method tsdf" in result.output
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "tsdf_mesh.ply"))
    assert len(mesh.triangles) > 500
    # Upstream's volume also has walls around what no camera looked into, so not all of the mesh is on the scene.
    assert_has_the_scene(to_scene(np.asarray(mesh.vertices), trained_run))


def assert_has_the_scene(vertices: np.ndarray) -> None:
    """The upper half of the ball and the square beside it, which every camera sees, must be on the mesh."""
    up = np.random.default_rng(0).normal(size=(500, 3))
    up[:, 2] = np.abs(up[:, 2])
    ball = [0, 0, 0.5] + 0.5 * up / np.linalg.norm(up, axis=-1, keepdims=True)
    angles = np.linspace(0, 2 * np.pi, 100)
    square = np.stack([1.1 * np.cos(angles), 1.1 * np.sin(angles), 0 * angles], axis=-1)
    for points in (ball, square):
        assert np.median(KDTree(vertices).query(points)[0]) < 0.1


def test_our_mesh_is_painted_with_the_photos_and_opens_elsewhere(trained_run: TrainedRun, tmp_path: Path) -> None:
    import open3d
    import trimesh

    said = trained_run.cli.succeed(
        *("img3d-export", "mesh", "--load-config", trained_run.config, "--output", tmp_path / "scene.glb"),
        *("--original-frame", "--resolution", 96, "--faces", 5000, "--texture-size", 256, "--lods", 2),
    ).output
    assert "triangles" in said.splitlines()[-1]
    mesh = trimesh.load(tmp_path / "scene.glb", force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    assert 3000 < len(mesh.faces) <= 5000
    assert len(trimesh.load(tmp_path / "scene_lod1.glb", force="mesh").faces) <= 1250  # pyright: ignore
    assert len(open3d.io.read_triangle_mesh(str(tmp_path / "scene.glb")).triangles) == len(mesh.faces)
    assert_has_the_scene(np.asarray(mesh.vertices))
    colors = mesh.visual.to_color().vertex_colors  # pyright: ignore
    x, y, z = mesh.vertices.T
    on_square = (np.abs(z) < 0.05) & (np.maximum(np.abs(x), np.abs(y)) < 1.3) & (np.hypot(x, y) > 0.8)
    light = (np.floor(2 * x) + np.floor(2 * y)) % 2 > 0
    brightness = [colors[on_square & tiles, :3].mean() / 255 for tiles in (light, ~light)]
    assert brightness == pytest.approx([0.78, 0.25], abs=0.1)


def test_cameras_are_those_of_the_photos(trained_run: TrainedRun, tmp_path: Path) -> None:
    trained_run.cli.succeed("ns-export", "cameras", "--load-config", trained_run.config, "--output-dir", tmp_path)
    train = json.loads((tmp_path / "transforms_train.json").read_text())
    held_out = json.loads((tmp_path / "transforms_eval.json").read_text())
    assert (len(train), len(held_out)) == (14, 2)
    cameras = Img3dPhotosDataParserConfig(data=trained_run.data).setup().get_dataparser_outputs("train").cameras
    np.testing.assert_allclose([frame["transform"] for frame in train], cameras.camera_to_worlds.numpy(), atol=1e-6)


def test_marching_cubes_refuses_in_a_sentence(trained_run: TrainedRun, tmp_path: Path) -> None:
    result = trained_run.cli.run(
        "ns-export", "marching-cubes", "--load-config", trained_run.config, "--output-dir", tmp_path
    )
    assert result.code == 1
    assert "Traceback" not in result.output
    assert result.last_line.startswith("Error: marching-cubes needs a signed distance field")
