# SPDX-License-Identifier: Apache-2.0
"""Exports of ARKit apps (3D Scanner App, NeRFCapture) give cameras that see known points where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from known_scene import (
    SEEDS,
    FloatArray,
    KnownCamera,
    PosedFormat,
    assert_cameras_see_the_points,
    points_of,
    write_photo,
)

from img3d_dataparsers.formats import capture_files
from img3d_dataparsers.formats.arkit_frames import is_arkit_frames, read_arkit_frames
from img3d_dataparsers.formats.transforms_json import read_transforms

POINTS = points_of(np.random.default_rng(2))


def opengl_projection(camera: KnownCamera, near: float = 0.001) -> FloatArray:
    """The projection matrix to [-1, 1] of OpenGL, with the far plane at infinity: checked to be the app's."""
    w, h = camera.width, camera.height
    return np.array(
        [
            [2 * camera.fx / w, 0, 1 - 2 * camera.cx / w, 0],
            [0, 2 * camera.fy / h, 2 * camera.cy / h - 1, 0],
            [0, 0, -1, -near],
            [0, 0, -1, 0],
        ]
    )


def camera_json(camera: KnownCamera) -> dict[str, Any]:
    """The app's sample: everything row by row; ARKit's principal point counts from the first pixel's centre."""
    intrinsics = [camera.fx, 0, camera.cx - 0.5, 0, camera.fy, camera.cy - 0.5, 0, 0, 1]
    return {
        "cameraPoseARFrame": camera.opengl_to_world.ravel().tolist(),
        "intrinsics": intrinsics,
        "projectionMatrix": opengl_projection(camera).ravel().tolist(),
        "frame_index": 0,
        "motionQuality": 1,
    }


def write_scan(folder: Path, cameras: list[KnownCamera]) -> list[str]:
    """Every third frame has a photo, and some pictures are no photos."""
    names = []
    for i, camera in enumerate(cameras):
        names.append(f"frame_{3 * i:05d}.jpg")
        write_photo(folder / names[-1], camera.width, camera.height)
        for index in range(3 * i, 3 * i + 3):
            (folder / f"frame_{index:05d}.json").write_text(json.dumps(camera_json(camera)))
            write_photo(folder / f"depth_{index:05d}.png", 8, 6)
            write_photo(folder / f"conf_{index:05d}.png", 8, 6)
    write_photo(folder / "thumb_00000.jpg", 16, 12)
    (folder / "info.json").write_text("{}")
    return names


SCAN = PosedFormat(write_scan, is_arkit_frames, read_arkit_frames)


class Test3DScannerApp:
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_cameras_see_known_points(self, seed: int) -> None:
        SCAN.check_known_points(seed)

    def test_numbers_of_the_apps_own_sample(self, tmp_path: Path) -> None:
        """From chair_scan/frame_00000.json: its projection matrix says where points fall in 1920x1440 pixels."""
        pose = [0.825255, 0.398803, -0.399887, -0.407693, -0.010262, 0.718537, 0.695413, 1.448890]
        pose += [0.564667, -0.569789, 0.597069, 1.305903, 0, 0, 0, 0.99999988]
        intrinsics = [1447.654296875, 0, 966.02886962890625, 0, 1447.654296875, 691.7015380859375, 0, 0, 1]
        projection = np.zeros((4, 4))
        projection[0, 0], projection[0, 2] = 1.5079731941223145, -0.0068008899688720703
        projection[1, 1], projection[1, 2] = 2.0106310844421387, -0.038609027862548828
        projection[2, 2], projection[2, 3], projection[3, 2] = -1, -0.001, -1
        values = {"cameraPoseARFrame": pose, "intrinsics": intrinsics, "projectionMatrix": projection.ravel().tolist()}
        (tmp_path / "frame_00000.json").write_text(json.dumps(values))
        write_photo(tmp_path / "frame_00000.jpg", 1920, 1440)

        matrix = np.array(pose).reshape(4, 4)
        points = (np.array([[0.1, 0.2, -1.5], [-0.3, 0.1, -2.0], [0, -0.2, -1.0]]) @ matrix[:3, :3].T) + matrix[:3, 3]
        homogeneous = np.column_stack([points, np.ones(3)])
        x, y, _, w = projection @ np.linalg.inv(matrix) @ homogeneous.T
        expected = np.stack([(0.5 + 0.5 * x / w) * 1920, (0.5 - 0.5 * y / w) * 1440], axis=-1)

        [frame] = (posed := read_arkit_frames(tmp_path)).frames
        c2w = np.asarray(frame.camera_to_world)
        in_frame = points @ posed.applied_transform[:, :3].T
        right, up, back = c2w[:, :3].T @ (in_frame - c2w[:, 3]).T
        k = frame.intrinsics
        seen = np.stack([k["cx"] + k["fl_x"] * right / -back, k["cy"] + k["fl_y"] * up / back], axis=-1)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=2e-3)  # the pose has six digits
        assert (k["w"], k["h"]) == (1920, 1440)

    def test_reduced_photos_scale_the_intrinsics(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_scan(tmp_path, cameras)
        for name in names:
            write_photo(tmp_path / name, 32, 24)
        assert_cameras_see_the_points(read_arkit_frames(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)

    @pytest.mark.parametrize("projection", [None, [1, 2], "x", list(range(16)), [3.0] * 16])
    def test_a_projection_matrix_of_something_else_is_not_trusted(
        self, tmp_path: Path, cameras: list[KnownCamera], projection: object
    ) -> None:
        names = write_scan(tmp_path, cameras)
        for path in tmp_path.glob("frame_*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "projectionMatrix": projection}))
        assert_cameras_see_the_points(read_arkit_frames(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)

    def test_depth_maps_are_found_where_the_phone_made_them(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_scan(tmp_path, cameras)
        (tmp_path / "depth_00003.png").unlink()
        found = [frame.depth_path and frame.depth_path.name for frame in read_arkit_frames(tmp_path).frames]
        assert found == ["depth_00000.png", None, "depth_00006.png", "depth_00009.png"]

    def test_the_world_stays_upright_with_z_up(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        """The sensor lies on its side when the phone is held upright, so the photos don't tell where up is."""
        write_scan(tmp_path, cameras)
        posed = read_arkit_frames(tmp_path)
        assert posed.orientation_method == "none"
        assert (posed.applied_transform[:, :3] @ [0.0, 1.0, 0.0]).tolist() == [0, 0, 1]


class TestSeedPoints:
    def write_points(self, folder: Path, xyz: FloatArray) -> None:
        header = f"ply\nformat ascii 1.0\nelement vertex {len(xyz)}\n"
        header += "".join(f"property float {axis}\n" for axis in "xyz")
        header += "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue")) + "end_header\n"
        lines = [f"{x} {y} {z} {i % 256} 2 3\n" for i, (x, y, z) in enumerate(xyz)]
        (folder / "points.ply").write_text(header + "".join(lines))

    def test_they_are_the_scans_points_in_the_world_of_the_frames(
        self, tmp_path: Path, cameras: list[KnownCamera]
    ) -> None:
        write_scan(tmp_path, cameras)
        self.write_points(tmp_path, POINTS)
        posed = read_arkit_frames(tmp_path)
        points = posed.read_seed_points()
        assert points is not None
        np.testing.assert_allclose(points[0], POINTS @ posed.applied_transform[:, :3].T, rtol=0, atol=2e-7)  # float32
        assert points[1].tolist() == [[i, 2, 3] for i in range(20)]

    def test_a_dense_scan_is_thinned_alike_every_time(
        self, tmp_path: Path, cameras: list[KnownCamera], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(capture_files, "MAX_SCAN_POINTS", 50)
        write_scan(tmp_path, cameras)
        self.write_points(tmp_path, np.arange(900.0).reshape(300, 3))
        first, second = (read_arkit_frames(tmp_path).read_seed_points() for _ in range(2))
        assert first is not None and second is not None
        assert len(first[0]) == len(first[1]) == 50 == len(np.unique(first[0], axis=0))
        np.testing.assert_array_equal(first[0], second[0])
        which = (first[0].min(axis=-1) / 3).astype(int)
        np.testing.assert_array_equal(first[1][:, 0], which % 256)  # each keeps its own colour

    def test_none_without_a_scan(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_scan(tmp_path, cameras)
        assert read_arkit_frames(tmp_path).read_seed_points() is None


class TestBadInput:
    def test_a_photo_without_a_camera(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_scan(tmp_path, cameras)
        (tmp_path / "frame_00003.json").unlink()
        assert "frame_00003.jpg has no camera" in SCAN.error_of(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"cameraPoseARFrame": None}, "cameraPoseARFrame must be 16 numbers"),
            ({"cameraPoseARFrame": [1, 0]}, "cameraPoseARFrame must be 16 numbers"),
            ({"cameraPoseARFrame": [float("nan")] * 16}, "cameraPoseARFrame must be 16 numbers"),
            ({"cameraPoseARFrame": [*np.eye(4)[:3].ravel(), 1, 2, 3, 1]}, "the last row"),
            ({"intrinsics": None}, "intrinsics must be 9 numbers"),
            ({"intrinsics": "wide"}, "intrinsics must be 9 numbers"),
        ],
    )
    def test_a_damaged_camera(
        self, tmp_path: Path, cameras: list[KnownCamera], change: dict[str, Any], message: str
    ) -> None:
        write_scan(tmp_path, cameras)
        path = tmp_path / "frame_00006.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        error = SCAN.error_of(tmp_path)
        assert "frame_00006.json" in error and message in error

    @pytest.mark.parametrize("content", ["", "{", "[]", "\ufeff"])
    def test_garbage_for_a_camera(self, tmp_path: Path, cameras: list[KnownCamera], content: str) -> None:
        write_scan(tmp_path, cameras)
        (tmp_path / "frame_00000.json").write_text(content, encoding="utf-8")
        assert "frame_00000.json" in SCAN.error_of(tmp_path)


class TestNeRFCapture:
    def test_cameras_see_known_points(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        """Its Manifest.swift, in snake case: intrinsics in each frame, and paths without a suffix."""
        names = {}
        frames = []
        for i, camera in enumerate(cameras):
            names[f"images/{i}.png"] = camera
            write_photo(tmp_path / "images" / f"{i}.png", camera.width, camera.height)
            frames.append(
                {
                    **{"file_path": f"images/{i}", "depth_path": f"images/{i}.depth.png", "timestamp": 12.5 + i},
                    **{"transform_matrix": camera.opengl_to_world.tolist()},
                    **{"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy},
                    **{"w": camera.width, "h": camera.height},
                }
            )
        first = frames[0]
        shared = {key: first[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
        manifest = {**shared, "depth_integer_scale": 0.0001, "depth_source": "arkit", "frames": frames}
        (tmp_path / "transforms.json").write_text(json.dumps(manifest))
        assert_cameras_see_the_points(read_transforms(tmp_path / "transforms.json"), names, POINTS)
