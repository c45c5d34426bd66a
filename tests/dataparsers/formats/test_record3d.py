# SPDX-License-Identifier: Apache-2.0
"""A Record3D recording, made to its author's description, gives cameras that see known points where they are."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_scene import (
    SEEDS,
    KnownCamera,
    PosedFormat,
    assert_cameras_see_the_points,
    cameras_of,
    points_of,
    write_photo,
)
from scipy.spatial.transform import Rotation

from img3d_dataparsers.formats.record3d import is_record3d, read_record3d


def sharing_intrinsics(cameras: list[KnownCamera]) -> list[KnownCamera]:
    first = cameras[0]
    return [replace(camera, fx=first.fx, fy=first.fy, cx=first.cx, cy=first.cy) for camera in cameras]


def metadata_of(cameras: list[KnownCamera], per_frame: bool) -> dict[str, Any]:
    first = cameras[0]
    poses = []
    for camera in cameras:
        quaternion = Rotation.from_matrix(camera.opengl_to_world[:3, :3]).as_quat()  # x, y, z, w
        poses.append([*quaternion.tolist(), *camera.centre.tolist()])
    metadata = {
        "w": first.width,
        "h": first.height,
        "K": [first.fx, 0, 0, 0, first.fy, 0, first.cx, first.cy, 1],  # column by column
        "fps": 60,
        "dw": 192,
        "dh": 256,
        "initPose": [0, 0, 0, 1, 0, 0, 0],
        "poses": poses,
    }
    if per_frame:
        metadata["perFrameIntrinsicCoeffs"] = [[camera.fx, camera.fy, camera.cx, camera.cy] for camera in cameras]
    return metadata


def write_record3d(
    folder: Path,
    cameras: list[KnownCamera],
    per_frame: bool = True,
    photos: str = "rgb",
    metadata: str = "metadata.json",
    first: int = 0,
) -> list[str]:
    names = [f"{photos}/{first + i}.jpg" for i in range(len(cameras))]
    for name, camera in zip(names, cameras, strict=True):
        write_photo(folder / name, camera.width, camera.height)
    (folder / metadata).write_text(json.dumps(metadata_of(cameras, per_frame)))
    return names


RECORD3D = PosedFormat(write_record3d, is_record3d, read_record3d)


@pytest.fixture
def cameras() -> list[KnownCamera]:
    return cameras_of(np.random.default_rng(1), 12)


POINTS = points_of(np.random.default_rng(2))


class TestCameras:
    @given(seed=SEEDS, per_frame=st.booleans())
    @settings(max_examples=30, deadline=None)
    def test_they_see_known_points(self, seed: int, per_frame: bool) -> None:
        written = replace(RECORD3D, write=partial(write_record3d, per_frame=per_frame))
        written.check_known_points(seed, list if per_frame else sharing_intrinsics)

    @pytest.mark.parametrize(("photos", "metadata"), [("rgb", "metadata.json"), ("rgbd", "metadata")])
    def test_photos_are_in_the_order_of_their_numbers(
        self, tmp_path: Path, cameras: list[KnownCamera], photos: str, metadata: str
    ) -> None:
        names = write_record3d(tmp_path, cameras, photos=photos, metadata=metadata)
        assert names != sorted(names), "10.jpg comes after 9.jpg"
        assert_cameras_see_the_points(read_record3d(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)

    def test_counting_from_one(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_record3d(tmp_path, cameras, first=1)
        assert_cameras_see_the_points(read_record3d(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)

    def test_photos_that_were_taken_away_leave_the_others_their_cameras(
        self, tmp_path: Path, cameras: list[KnownCamera]
    ) -> None:
        names = dict(zip(write_record3d(tmp_path, cameras), cameras, strict=True))
        for name in ("rgb/0.jpg", "rgb/4.jpg", "rgb/11.jpg"):
            (tmp_path / name).unlink()
            del names[name]
        assert_cameras_see_the_points(read_record3d(tmp_path), names, POINTS)

    def test_copies_do_not_count(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_record3d(tmp_path, cameras)
        write_photo(tmp_path / "rgb" / "3(1).jpg")
        assert_cameras_see_the_points(read_record3d(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)

    def test_photos_of_another_size_than_the_metadata_says(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        names = write_record3d(tmp_path, cameras)
        for name in names:
            write_photo(tmp_path / name, 128, 96)
        assert_cameras_see_the_points(read_record3d(tmp_path), dict(zip(names, cameras, strict=True)), POINTS)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"poses": []}, "rgb to solve for them"),
            ({"poses": None}, "has no poses"),
            ({"poses": [[0, 0, 0, 0, 1, 2, 3]] * 12}, "the rotation of pose 0 is all zeros"),
            ({"poses": [[0, 0, 0, 1, 1, 2]] * 12}, "pose 0 must be 7 numbers"),
            ({"poses": [[0, 0, 0, 1, 1, 2, "x"]] * 12}, "pose 0 must be 7 numbers"),
            ({"poses": [[0, 0, 0, 1, 1, 2, 3]] * 5}, "has 5 poses, but there is a photo"),
            ({"K": None}, "K must be 9 numbers"),
            ({"K": [1, 2, 3]}, "K must be 9 numbers"),
            ({"w": None}, "w must be 1 numbers"),
            ({"h": "tall"}, "h must be 1 numbers"),
            ({"perFrameIntrinsicCoeffs": [[1, 2]] * 12}, "perFrameIntrinsicCoeffs 0 must be 4 numbers"),
        ],
    )
    def test_damaged_metadata(
        self, tmp_path: Path, cameras: list[KnownCamera], change: dict[str, Any], message: str
    ) -> None:
        write_record3d(tmp_path, cameras)
        path = tmp_path / "metadata.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        assert message in RECORD3D.error_of(tmp_path)

    @given(share=st.floats(0, 0.999))
    @settings(max_examples=10, deadline=None)
    def test_metadata_truncated_anywhere(self, share: float) -> None:
        with tempfile.TemporaryDirectory() as name:
            write_record3d(Path(name), cameras_of(np.random.default_rng(0), 2))
            path = Path(name) / "metadata.json"
            path.write_text(path.read_text()[: int(share * path.stat().st_size)])
            assert "is not valid JSON" in RECORD3D.error_of(Path(name))

    def test_no_photos(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        for name in write_record3d(tmp_path, cameras):
            (tmp_path / name).unlink()
        assert "there are no numbered photos" in RECORD3D.error_of(tmp_path)
