# SPDX-License-Identifier: Apache-2.0
"""Strecha's .camera files give cameras that see known points where they are, and agree with real photos."""

from __future__ import annotations

from pathlib import Path

import cv2
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

from img3d_dataparsers.formats.strecha import is_strecha, read_strecha
from img3d_dataparsers.posed_photos import Frame


def camera_file(camera: KnownCamera) -> str:
    """The benchmark's layout: K, three zeros, the camera's axes as columns, its centre, width and height."""
    rows = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0], [0, 0, 0]]
    rows += [*np.column_stack(camera.axes), camera.centre, [camera.width, camera.height]]
    return "".join(" ".join(repr(float(value)) for value in row) + " \n" for row in rows)


def write_strecha(
    folder: Path, cameras: list[KnownCamera], photos: str = "images", beside: str = "gt_dense_cameras"
) -> list[str]:
    names = [f"{photos}/{i:04d}.jpg" if photos else f"{i:04d}.jpg" for i in range(len(cameras))]
    (folder / beside).mkdir(exist_ok=True)
    for name, camera in zip(names, cameras, strict=True):
        write_photo(folder / name)
        (folder / beside / f"{Path(name).name}.camera").write_text(camera_file(camera))
    return names


STRECHA = PosedFormat(write_strecha, is_strecha, read_strecha)


class TestCameras:
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_they_see_known_points(self, seed: int) -> None:
        STRECHA.check_known_points(seed)

    @pytest.mark.parametrize(
        ("photos", "beside"), [("images", "cams"), ("", "."), ("urd", "urd"), ("", "gt"), ("images", ".")]
    )
    def test_wherever_photos_and_cameras_lie(
        self, tmp_path: Path, cameras: list[KnownCamera], photos: str, beside: str
    ) -> None:
        names = write_strecha(tmp_path, cameras, photos, beside)
        assert is_strecha(tmp_path)
        points = points_of(np.random.default_rng(2))
        assert_cameras_see_the_points(read_strecha(tmp_path), dict(zip(names, cameras, strict=True)), points)

    def test_reduced_photos_scale_the_intrinsics(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_strecha(tmp_path, cameras)
        for name in names:
            write_photo(tmp_path / name, 32, 24)
        points = points_of(np.random.default_rng(2))
        assert_cameras_see_the_points(read_strecha(tmp_path), dict(zip(names, cameras, strict=True)), points)

    def test_other_camera_files_are_none_of_ours(self, tmp_path: Path) -> None:
        (tmp_path / "scene.camera").write_text("something else")
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / "0000.jpg.camera").write_text("x")
        assert not is_strecha(tmp_path)


class TestBadInput:
    def test_a_photo_without_a_camera(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_strecha(tmp_path, cameras)
        (tmp_path / "gt_dense_cameras" / "0002.jpg.camera").unlink()
        assert "0002.jpg has no camera" in STRECHA.error_of(tmp_path)

    def test_no_photos(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        for name in write_strecha(tmp_path, cameras):
            (tmp_path / name).unlink()
        assert "there are no photos" in STRECHA.error_of(tmp_path)

    def test_two_sets_of_cameras(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_strecha(tmp_path, cameras)
        write_strecha(tmp_path, cameras, beside="estimated")
        assert "in both estimated/ and gt_dense_cameras/" in STRECHA.error_of(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda text: text[: len(text) // 2], "must be 26 numbers"),
            (lambda text: "", "must be 26 numbers"),
            (lambda text: text.replace("1.0", "one", 1), "must be 26 numbers"),
            (lambda text: text.replace("1.0", "nan", 1), "must be 26 numbers"),
            (lambda text: text + "1 2 3", "must be 26 numbers"),
            (lambda text: text.replace("0.0 0.0 0.0 \n", "0.1 0.0 0.0 \n"), "distortion"),
            (lambda text: text + "é", "not a text file"),
        ],
    )
    def test_a_damaged_camera_file(
        self, tmp_path: Path, cameras: list[KnownCamera], change: object, message: str
    ) -> None:
        write_strecha(tmp_path, cameras)
        path = tmp_path / "gt_dense_cameras" / "0001.jpg.camera"
        assert callable(change)
        path.write_text(change(path.read_text()), encoding="utf-8")
        error = STRECHA.error_of(tmp_path)
        assert "0001.jpg.camera" in error and message in error


def essential(first: Frame, second: Frame) -> FloatArray:
    """The essential matrix of two OpenGL cameras, for directions (x right, y up, z back) in each."""
    a, b = (np.asarray(frame.camera_to_world) for frame in (first, second))
    rotation = b[:, :3].T @ a[:, :3]
    x, y, z = b[:, :3].T @ (a[:, 3] - b[:, 3])
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation


def directions(frame: Frame, pixels: FloatArray) -> FloatArray:
    """Viewing directions `[P, 3]` of pixels `[P, 2]`, OpenGL camera axes."""
    k = frame.intrinsics
    x = (pixels[:, 0] - k["cx"]) / k["fl_x"]
    y = (pixels[:, 1] - k["cy"]) / k["fl_y"]
    return np.stack([x, -y, -np.ones_like(x)], axis=-1)


class TestFountain:
    """Surveyed cameras of real photos."""

    @pytest.fixture
    def fountain(self, data_dir: Path) -> Path:
        return data_dir / "fountain_p11"

    def test_projections_are_those_of_the_files(self, fountain: Path) -> None:
        posed = read_strecha(fountain)
        cameras = {}
        for path in sorted((fountain / "gt_dense_cameras").iterdir()):
            v = np.array(path.read_text().split(), dtype=np.float64)
            rotation = v[12:21].reshape(3, 3).T
            translation = -rotation @ v[21:24]
            cameras[f"images/{path.stem}"] = KnownCamera(
                rotation, translation, v[0], v[4], v[2], v[5], int(v[24]), int(v[25])
            )
        ahead = [camera.centre + 8 * camera.axes[2] for camera in cameras.values()]
        points = np.mean(ahead, axis=0) + points_of(np.random.default_rng(0))
        assert len(cameras) == 11
        assert_cameras_see_the_points(posed, cameras, points, atol=0.05)  # the files' rotations have six digits

    def test_matched_features_lie_on_their_epipolar_lines(self, fountain: Path) -> None:
        first, second = read_strecha(fountain).frames[4:6]
        sift = cv2.SIFT_create(1500)
        features = []
        for frame in (first, second):
            image = cv2.imread(str(frame.image_path), cv2.IMREAD_REDUCED_GRAYSCALE_4)
            features.append(sift.detectAndCompute(image, None))
        pairs = cv2.BFMatcher().knnMatch(features[0][1], features[1][1], k=2)
        matches = [best for best, other in pairs if best.distance < 0.7 * other.distance]
        pixels = [
            np.array([features[0][0][match.queryIdx].pt for match in matches]) * 4,
            np.array([features[1][0][match.trainIdx].pt for match in matches]) * 4,
        ]
        assert len(matches) > 200
        lines = directions(first, pixels[0]) @ essential(first, second).T
        # Distance from the line, in pixels of the second photo.
        misses = np.abs((lines * directions(second, pixels[1])).sum(-1))
        distance = misses / np.linalg.norm(lines[:, :2], axis=-1) * second.intrinsics["fl_x"]
        assert np.median(distance) < 1.0
