# SPDX-License-Identifier: Apache-2.0
"""LLFF's poses_bounds.npy, written to its published description, gives cameras that see known points where they are."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_scene import (
    SEEDS,
    FloatArray,
    KnownCamera,
    PosedFormat,
    assert_cameras_see_the_points,
    cameras_of,
    points_of,
    write_photo,
)

from img3d_dataparsers.formats.llff import is_llff, read_llff


def centred(camera: KnownCamera) -> KnownCamera:
    """LLFF has no principal point: it is the middle."""
    values = {**vars(camera), "cx": camera.width / 2, "cy": camera.height / 2}
    return KnownCamera(**values)


def rows_of(cameras: list[KnownCamera]) -> FloatArray:
    """LLFF's README: a 3x5 matrix with columns down, right, back, centre, (h, w, f), row by row; then near and far."""
    rows = []
    for camera in cameras:
        right, down, forward = camera.axes
        matrix = np.column_stack([down, right, -forward, camera.centre, [camera.height, camera.width, camera.fx]])
        rows.append([*matrix.ravel(), 0.5, 9.0])
    return np.array(rows)


def write_llff(folder: Path, cameras: list[KnownCamera], images: str = "images", reduction: int = 1) -> list[str]:
    names = [f"{images}/IMG_{4000 + i}.JPG" for i in range(len(cameras))]
    for name, camera in zip(names, cameras, strict=True):
        write_photo(folder / name, camera.width // reduction, camera.height // reduction)
    np.save(folder / "poses_bounds.npy", rows_of(cameras))
    return names


LLFF = PosedFormat(write_llff, is_llff, read_llff)


@pytest.fixture
def cameras() -> list[KnownCamera]:
    return [centred(camera) for camera in cameras_of(np.random.default_rng(1), 4, square_pixels=True)]


class TestCameras:
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_they_see_known_points(self, seed: int) -> None:
        LLFF.check_known_points(seed, lambda cameras: [centred(camera) for camera in cameras], square_pixels=True)

    def test_reduced_photos_scale_the_intrinsics(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_llff(tmp_path, cameras, "images_8", reduction=8)
        names = write_llff(tmp_path, cameras, "images_4", reduction=4)
        posed = read_llff(tmp_path)
        points = points_of(np.random.default_rng(2))
        assert_cameras_see_the_points(posed, dict(zip(names, cameras, strict=True)), points)

    def test_photos_in_full_size_win(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_llff(tmp_path, cameras, "images_4", reduction=4)
        names = write_llff(tmp_path, cameras)
        assert [frame.image_path for frame in read_llff(tmp_path).frames] == [tmp_path / name for name in names]

    def test_other_files_among_the_photos_do_not_count(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_llff(tmp_path, cameras)
        (tmp_path / "images" / "notes.txt").write_text("x")
        (tmp_path / "images" / "._IMG_4000.JPG").write_bytes(b"what macOS leaves on USB sticks")
        assert len(read_llff(tmp_path).frames) == len(cameras)


class TestBadInput:
    def test_another_number_of_photos(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_llff(tmp_path, cameras)
        (tmp_path / names[1]).unlink()
        assert "has 4 cameras for 3 photos" in LLFF.error_of(tmp_path)

    def test_no_photos(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        np.save(tmp_path / "poses_bounds.npy", rows_of(cameras))
        assert "there are no photos in" in LLFF.error_of(tmp_path)

    @pytest.mark.parametrize("shape", [(4, 15), (4, 3, 5), (17,), (0, 17)])
    def test_another_shape(self, tmp_path: Path, cameras: list[KnownCamera], shape: tuple[int, ...]) -> None:
        write_llff(tmp_path, cameras)
        np.save(tmp_path / "poses_bounds.npy", np.zeros(shape))
        assert f"of shape {shape}" in LLFF.error_of(tmp_path)

    @given(share=st.floats(0, 0.999))
    @settings(max_examples=20, deadline=None)
    def test_truncated_anywhere(self, share: float) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = folder / "poses_bounds.npy"
            write_llff(folder, cameras_of(np.random.default_rng(0), 2))
            whole = path.read_bytes()
            path.write_bytes(whole[: int(share * len(whole))])
            assert "poses_bounds.npy" in LLFF.error_of(folder)

    def test_an_array_of_python_objects_is_not_unpickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "poses_bounds.npy", np.array([{"pose": 1}], dtype=object), allow_pickle=True)
        assert "does not hold numbers" in LLFF.error_of(tmp_path)

    def test_an_archive_under_the_files_name(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "poses.npz", poses=np.zeros((4, 17)))
        (tmp_path / "poses.npz").rename(tmp_path / "poses_bounds.npy")
        assert "not a valid .npy file" in LLFF.error_of(tmp_path)
