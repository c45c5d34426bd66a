# SPDX-License-Identifier: Apache-2.0
"""Polycam's raw export, made to its published description, gives cameras that see known points where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from known_scene import (
    SEEDS,
    KnownCamera,
    PosedFormat,
    assert_cameras_see_the_points,
    points_of,
    write_photo,
)
from PIL import Image

from img3d_dataparsers.formats.ply_points import read_ply_points
from img3d_dataparsers.formats.polycam import is_polycam, read_polycam


def camera_json(camera: KnownCamera) -> dict[str, float]:
    """polyform's README: ARKit's camera to world as t_ij (row i, column j), and the intrinsics."""
    rows = camera.opengl_to_world[:3]
    return {
        **{f"t_{i}{j}": float(rows[i, j]) for i in range(3) for j in range(4)},
        **{"fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy},
        **{"width": camera.width, "height": camera.height, "blur_score": 120.5, "timestamp": 1},
    }


def write_polycam(folder: Path, cameras: list[KnownCamera], prefix: str = "corrected_") -> list[str]:
    """Photos are named by microseconds, whose order is not the alphabet's where their lengths differ."""
    names = []
    for i, camera in enumerate(cameras):
        stem = str(163_000_000 + 1_234_567 * i)
        names.append(f"keyframes/{prefix}images/{stem}.jpg")
        write_photo(folder / names[-1], camera.width, camera.height)
        path = folder / "keyframes" / f"{prefix}cameras" / f"{stem}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(camera_json(camera)))
    return names


def write_mesh(folder: Path) -> None:
    """A textured square as `raw.glb`, shifted by Polycam's alignment; corners in ARKit's world at z = -1."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32, :32], picture[:32, 32:] = (255, 0, 0), (0, 255, 0)
    picture[32:, :32], picture[32:, 32:] = (0, 0, 255), (255, 255, 0)
    alignment = np.array([[0, 0, 1, 5], [0, 1, 0, 6], [-1, 0, 0, 7], [0, 0, 0, 1]], dtype=np.float64)
    corners = np.array([[0, 0, -1, 1], [1, 0, -1, 1], [0, 1, -1, 1], [1, 1, -1, 1]]) @ alignment.T
    visual = TextureVisuals(
        uv=np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]]),  # from the picture's lower left corner
        material=PBRMaterial(baseColorTexture=Image.fromarray(picture)),
    )
    mesh = trimesh.Trimesh(corners[:, :3], [[0, 1, 2], [2, 1, 3]], visual=visual, process=False)
    exported = mesh.export(file_type="glb")
    assert isinstance(exported, bytes)
    (folder / "raw.glb").write_bytes(exported)
    column_major = alignment.T.ravel().tolist()
    (folder / "mesh_info.json").write_text(json.dumps({"alignmentTransform": column_major, "vertexCount": 4}))


POLYCAM = PosedFormat(write_polycam, is_polycam, read_polycam)


class TestCameras:
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_they_see_known_points(self, seed: int) -> None:
        POLYCAM.check_known_points(seed)

    def test_corrected_photos_win_over_raw_ones(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_polycam(tmp_path, cameras[::-1], prefix="")
        names = write_polycam(tmp_path, cameras)
        points = points_of(np.random.default_rng(2))
        assert_cameras_see_the_points(read_polycam(tmp_path), dict(zip(names, cameras, strict=True)), points)

    def test_raw_photos_do_where_polycam_corrected_none(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_polycam(tmp_path, cameras, prefix="")
        points = points_of(np.random.default_rng(2))
        assert_cameras_see_the_points(read_polycam(tmp_path), dict(zip(names, cameras, strict=True)), points)

    def test_depth_maps_are_found_where_the_phone_made_them(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        photos = write_polycam(tmp_path, cameras)
        depth = tmp_path / "keyframes" / "depth" / f"{Path(photos[1]).stem}.png"
        write_photo(depth, 8, 6)
        assert [frame.depth_path for frame in read_polycam(tmp_path).frames] == [None, depth, None, None]

    def test_the_world_stays_upright_with_z_up(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_polycam(tmp_path, cameras)
        posed = read_polycam(tmp_path)
        assert posed.orientation_method == "none"
        up_in_arkit = np.array([0.0, 1.0, 0.0])
        assert (posed.applied_transform[:, :3] @ up_in_arkit).tolist() == [0, 0, 1]

    def test_nothing_is_written_into_the_export(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_polycam(tmp_path, cameras)
        before = sorted(tmp_path.rglob("*"))
        read_polycam(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before


class TestSeedPoints:
    def test_they_are_the_corners_of_the_mesh_in_the_world_of_the_frames(
        self, tmp_path: Path, cameras: list[KnownCamera]
    ) -> None:
        write_polycam(tmp_path, cameras)
        write_mesh(tmp_path)
        posed = read_polycam(tmp_path)
        points = posed.read_seed_points()
        assert points is not None
        in_arkit = np.linalg.solve(posed.applied_transform[:, :3], points[0].T).T
        found = {
            tuple(xyz): tuple(rgb) for xyz, rgb in zip(in_arkit.round(4).tolist(), points[1].tolist(), strict=True)
        }
        assert found == {
            (0, 0, -1): (0, 0, 255),
            (1, 0, -1): (255, 255, 0),
            (0, 1, -1): (255, 0, 0),
            (1, 1, -1): (0, 255, 0),
        }

    def test_they_are_those_of_nerfstudios_converter(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        """Which asks open3d; the sphere has a node of its own, turned, stretched and shifted."""
        import trimesh
        from nerfstudio.process_data.polycam_utils import polycam_to_json
        from trimesh.visual import TextureVisuals
        from trimesh.visual.material import PBRMaterial

        write_polycam(tmp_path, cameras)
        write_mesh(tmp_path)
        rng = np.random.default_rng(0)
        sphere = trimesh.creation.uv_sphere(count=[8, 8])
        picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
        uv = rng.uniform(0.01, 0.99, (len(sphere.vertices), 2))
        sphere.visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=picture))
        scene = trimesh.Scene()
        turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.1, 0.2, 0.3])
        scene.add_geometry(sphere, transform=np.asarray(turn, dtype=np.float64))
        exported = scene.export(file_type="glb")
        assert isinstance(exported, bytes)
        (tmp_path / "raw.glb").write_bytes(exported)
        photo = next((tmp_path / "keyframes/corrected_images").iterdir())
        polycam_to_json([photo], [], tmp_path / "raw.glb", tmp_path / "keyframes/corrected_cameras", tmp_path)
        theirs = read_ply_points(tmp_path / "point_cloud.ply")
        ours = read_polycam(tmp_path).read_seed_points()
        assert ours is not None and theirs is not None
        assert len(ours[0]) == len(theirs[0])
        order, their_order = (np.lexsort(points[0].round(4).T) for points in (ours, theirs))
        np.testing.assert_allclose(ours[0][order], theirs[0][their_order], rtol=0, atol=3e-7)  # float32

    def test_a_mesh_without_a_triangle_a_texture_or_an_end(
        self, tmp_path: Path, cameras: list[KnownCamera], capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_polycam(tmp_path, cameras)
        write_mesh(tmp_path)
        whole = (tmp_path / "raw.glb").read_bytes()
        for old, new in ((b'"mode":4', b'"mode":1'), (b'"images"', b'"imagez"'), (b'"count":6', b'"count":9')):
            assert whole.count(old) >= 1
            (tmp_path / "raw.glb").write_bytes(whole.replace(old, new))
            assert read_polycam(tmp_path).read_seed_points() is None
        assert capsys.readouterr().out.count("Warning: seed points: ") == 3

    def test_a_mesh_without_its_alignment_is_left_alone(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_polycam(tmp_path, cameras)
        write_mesh(tmp_path)
        (tmp_path / "mesh_info.json").unlink()
        assert read_polycam(tmp_path).read_seed_points() is None

    @pytest.mark.parametrize(("name", "content"), [("raw.glb", b"glTF"), ("mesh_info.json", b"{"), ("raw.glb", b"")])
    def test_a_damaged_mesh_costs_a_warning(
        self,
        tmp_path: Path,
        cameras: list[KnownCamera],
        capsys: pytest.CaptureFixture[str],
        name: str,
        content: bytes,
    ) -> None:
        write_polycam(tmp_path, cameras)
        write_mesh(tmp_path)
        (tmp_path / name).write_bytes(content)
        assert read_polycam(tmp_path).read_seed_points() is None
        assert capsys.readouterr().out.count("Warning: ") == 1


class TestBadInput:
    def test_a_photo_without_a_camera(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        name = write_polycam(tmp_path, cameras)[1]
        (tmp_path / "keyframes" / "corrected_cameras" / f"{Path(name).stem}.json").unlink()
        assert f"{Path(name).name} has no camera" in POLYCAM.error_of(tmp_path)

    def test_no_photos(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        for name in write_polycam(tmp_path, cameras):
            (tmp_path / name).unlink()
        assert "has cameras but no photos" in POLYCAM.error_of(tmp_path)

    @pytest.mark.parametrize("content", ["", "{", "[1]", "\x00\x01", '{"fx": 1}', '{"fx": "wide"}'])
    def test_a_damaged_camera_file(self, tmp_path: Path, cameras: list[KnownCamera], content: str) -> None:
        write_polycam(tmp_path, cameras)
        path = sorted((tmp_path / "keyframes" / "corrected_cameras").iterdir())[2]
        path.write_text(content)
        assert path.name in POLYCAM.error_of(tmp_path)
