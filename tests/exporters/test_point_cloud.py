# SPDX-License-Identifier: Apache-2.0
"""`img3d-export pointcloud`: points on the surface, coloured, normals outward, in files that other programs read."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import laspy
import numpy as np
import open3d
import plyfile
import pytest
import torch
import trimesh
from export_commands import failing_export, run_export
from full_disk import files_limited_to
from nerfstudio.cameras.cameras import Cameras
from splat_scenes import ALL_SIDES, cameras_at, sphere_of_gaussians
from surface_pictures import WallModel, WallModelElsewhere, cameras_that_look_along_y

from img3d_assets.gaussians import Gaussians
from img3d_assets.point_cloud import PointCloud
from img3d_assets.point_cloud_files import SINGLE_PRECISION, WRITERS, write_point_cloud
from img3d_assets.splat_files import write_splats
from img3d_base.errors import InputError
from img3d_exporters.points.point_cloud import points_of_depth, points_on_gaussians

ENDINGS = list(WRITERS)


def read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, colours of 255 and normals, by a program that is not ours."""
    if path.suffix == ".las":
        las = laspy.read(path)
        colors = np.stack([las.red, las.green, las.blue], axis=1) / 257
        return las.xyz, colors, np.stack([las[f"Normal{axis}"] for axis in "XYZ"], axis=1)
    if path.suffix == ".xyz":
        table = np.loadtxt(path)
        return table[:, :3], table[:, 3:6], table[:, 6:]
    cloud = open3d.io.read_point_cloud(str(path))
    return np.asarray(cloud.points), np.asarray(cloud.colors) * 255, np.asarray(cloud.normals)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("center", [0.0, 1e5, 5.4e6])
def test_other_programs_read_what_was_written(tmp_path: Path, ending: str, center: float) -> None:
    cloud = points_on_gaussians(sphere_of_gaussians(), 1000)
    cloud.points += center
    write_point_cloud(cloud, tmp_path / "new" / f"a{ending}")
    points, colors, normals = read(tmp_path / "new" / f"a{ending}")
    largest = np.abs(cloud.points).max()
    in_float32 = np.spacing(np.float32(largest)) / 2
    rounding = {
        SINGLE_PRECISION: in_float32,  # the command moves points that are far away to the origin
        ".ply": in_float32 if center == 0 else 0,  # else double precision
        ".xyz": 0.5e-6,  # six digits
        ".las": 0.5e-8,  # steps of 1e-8 for an extent of 2
    }
    np.testing.assert_allclose(points, cloud.points, rtol=0, atol=rounding[ending] + 2 * np.spacing(largest))
    np.testing.assert_allclose(colors, cloud.colors * 255, rtol=0, atol=0.5 + 1e-4)
    np.testing.assert_allclose(normals, cloud.normals, rtol=0, atol=0.51e-4 if ending == ".xyz" else 1e-7)


def test_a_ply_opens_in_trimesh(tmp_path: Path) -> None:
    cloud = points_on_gaussians(sphere_of_gaussians(), 100)
    write_point_cloud(cloud, tmp_path / "a.ply")
    loaded = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_allclose(loaded.vertices, cloud.points, rtol=0, atol=6e-8)  # float32
    assert plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]["red"].dtype == np.uint8


@pytest.mark.parametrize("ending", ENDINGS)
def test_colours_beyond_white_and_black_are_clipped(tmp_path: Path, ending: str) -> None:
    """Harmonics give such colours; as bytes they would begin again at the other end."""
    colors = np.array([[1.01, -0.01, 0.5]] * 2, np.float32)
    cloud = PointCloud(np.zeros((2, 3)), colors, np.array([[0, 0, 1]] * 2, np.float32))
    write_point_cloud(cloud, tmp_path / f"a{ending}")
    np.testing.assert_array_equal(np.round(read(tmp_path / f"a{ending}")[1]), [[255, 0, 128]] * 2)


@pytest.mark.parametrize("cameras", [ALL_SIDES, None])
def test_points_of_gaussians_lie_on_the_surface(cameras: Cameras | None) -> None:
    cloud = points_on_gaussians(sphere_of_gaussians(), 5000, cameras)
    assert len(cloud) == 5000
    radii = np.linalg.norm(cloud.points, axis=1)
    # Points on tangential discs are at most 0.065 from the centres: above the sphere by half the square of that.
    assert np.abs(radii - 1).max() < 0.003
    assert (cloud.normals * cloud.points).sum(axis=1).min() > 0.997
    up = cloud.points[:, 2] > 0.1
    assert np.allclose(cloud.colors[up].mean(axis=0), [0.97958, 0.02044, 0.02044], rtol=0, atol=1e-4)
    # Evenly on all sides: the discs' own mean is 0.02 off, and that of 5,000 points scatters by 0.008.
    assert np.abs(cloud.points.mean(axis=0)).max() < 0.05


def test_the_sky_gets_no_points() -> None:
    sphere, sky = sphere_of_gaussians(), sphere_of_gaussians(500)
    sky.means *= np.float32(400)
    sky.log_scales += np.float32(np.log(400))
    cloud = points_on_gaussians(Gaussians.joined([sphere, sky]), 2000, ALL_SIDES)
    assert np.linalg.norm(cloud.points, axis=1).max() < 2


def test_what_no_camera_sees_gets_no_points() -> None:
    inside = sphere_of_gaussians(500)
    inside.means *= np.float32(0.5)
    inside.sh_dc[:] = 0
    both = Gaussians.joined([sphere_of_gaussians(4000), inside])
    both.opacities[:] = 9
    assert len(points_on_gaussians(inside, 100, ALL_SIDES)) == 100
    cloud = points_on_gaussians(both, 5000, ALL_SIDES)
    assert (np.linalg.norm(cloud.points, axis=1) < 0.9).mean() < 0.01
    behind = cameras_at((0, 0, 4))
    behind.camera_to_worlds[..., 3] *= -1  # looks away from the origin
    with pytest.raises(InputError, match="No visible Gaussian"):
        points_on_gaussians(inside, 100, behind)


def test_large_opaque_gaussians_get_more_points() -> None:
    splats = sphere_of_gaussians(4)
    splats.means = np.array([[9, 0, 0], [0, 9, 0], [-9, 0, 0], [0, -9, 0]], np.float32)
    splats.log_scales[1] += np.float32(np.log(2))  # four times the area
    splats.opacities = np.array([9, 9, -3, 9], np.float32)
    cloud = points_on_gaussians(splats, 10_000)
    near = [(np.linalg.norm(cloud.points - mean, axis=1) < 2).sum() for mean in splats.means]
    assert near[1] / near[0] == pytest.approx(4, rel=0.1)
    assert near[3] == pytest.approx(near[0], rel=0.1)
    assert near[2] == 0  # haze
    with pytest.raises(InputError, match="no surface"):
        points_on_gaussians(splats[2:3], 10)


def test_colours_are_those_of_the_nearest_view() -> None:
    splats = sphere_of_gaussians(1)
    splats.means[:] = splats.sh_dc[:] = 0
    splats.sh_rest = np.zeros((1, 3, 3), np.float32)
    splats.sh_rest[0, 2, 0] = -1  # the redder, the more x the view direction has
    left, right = (points_on_gaussians(splats, 1, cameras_at((side, 0, 0))).colors[0] for side in (-2.0, 2.0))
    assert left == pytest.approx([0.9886, 0.5, 0.5], abs=1e-3)
    assert right == pytest.approx([0.0114, 0.5, 0.5], abs=1e-3)


@pytest.mark.parametrize("model", [WallModel(), WallModelElsewhere()])
def test_points_of_depth_lie_where_rays_end(model: WallModel) -> None:
    cloud = points_of_depth(model, cameras_that_look_along_y(3), 2000)  # pyright: ignore[reportArgumentType]
    assert len(cloud) == 2000
    np.testing.assert_allclose(cloud.points[:, 1], 2, atol=1e-5)
    assert cloud.points[:, 2].min() > -1e-6
    np.testing.assert_allclose(cloud.normals, np.tile([0, -1, 0], (2000, 1)), atol=1e-4)
    np.testing.assert_allclose(cloud.colors, 0.25)


def test_nothing_in_view_is_one_line() -> None:
    nothing = SimpleNamespace(
        device=torch.device("cpu"),
        get_outputs_for_camera=lambda camera: {
            **WallModel().get_outputs_for_camera(camera),
            "accumulation": torch.zeros(48, 64, 1),
        },
    )
    with pytest.raises(InputError, match="renders no surface"):
        points_of_depth(nothing, cameras_that_look_along_y(2), 10)  # pyright: ignore[reportArgumentType]


def test_the_original_frame_undoes_the_normalisation() -> None:
    cloud = points_on_gaussians(sphere_of_gaussians(), 100)
    rotation, translation, scale = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), np.array([1.0, 2, 3]), 0.25
    transform = np.concatenate([rotation, translation[:, None]], axis=1)
    original = cloud.in_original_frame(transform, scale)
    np.testing.assert_allclose((original.points @ rotation.T + translation) * scale, cloud.points, atol=1e-6)
    np.testing.assert_allclose(original.normals @ rotation.T, cloud.normals, atol=1e-6)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    cloud = PointCloud(np.random.default_rng(0).normal(size=(2000, 3)), *(np.full((2, 2000, 3), 0.5, np.float32)))
    write_point_cloud(cloud[:10], path)
    before = path.read_bytes()
    with files_limited_to(5000), pytest.raises(InputError, match="cannot be written: File too large"):
        write_point_cloud(cloud, path)
    assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == before


def test_a_splat_file_may_be_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splats(sphere_of_gaussians(), tmp_path / "a.ply", "z")
    arguments = ("pointcloud", "--input", tmp_path / "a.ply", "--output", tmp_path / "b.pcd", "--num-points", 700)
    assert "700 points" in run_export(*arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert len(read(tmp_path / "b.pcd")[0]) == 700


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input", "a.ply", "--output", "b.obj"), "the file name has to end in one of .ply, .pcd, .xyz, .las"),
        (("--input", "a.ply", "--output", "a.ply"), "already exists"),
        (("--input", "a.ply", "--output", "b.las", "--num-points", "0"), "it must be at least 1"),
        (("--input", "a.ply", "--output", "b.las", "--source", "depth"), "--source depth needs --load-config"),
        (("--input", "a.ply", "--output", "b.las", "--original-frame"), "--original-frame needs --load-config"),
        (("--output", "b.las"), "Give either --load-config"),
    ],
)
def test_bad_input_costs_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_splats(sphere_of_gaussians(10), Path("a.ply"), "z")
    assert message in failing_export("pointcloud", *options, monkeypatch=monkeypatch, capsys=capsys)
    assert os.listdir(tmp_path) == ["a.ply"]
