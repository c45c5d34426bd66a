# SPDX-License-Identifier: Apache-2.0
"""COLMAP's files as COLMAP writes them, and with counts that lie."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import plyfile
import pytest
from known_scene import KnownCamera
from test_colmap import POINTS, to_binary, write_model

from img3d_base.errors import InputError
from img3d_dataparsers.formats.colmap import read_colmap_points
from img3d_dataparsers.formats.colmap_model import PARAMETERS, read_cameras, read_images, read_points

FAR = np.array([5.4e6, -3.2e5, 4.1e2])
"""A corner of a map: single precision rounds such coordinates to half metres."""


@pytest.fixture
def model(tmp_path: Path, cameras: list[KnownCamera]) -> Path:
    write_model(tmp_path, [f"{i}.jpg" for i in range(4)], cameras)
    return tmp_path


def test_binary_and_text_say_the_same(model: Path) -> None:
    text = read_cameras(model), read_images(model), read_points(model)
    to_binary(model)
    binary = read_cameras(model), read_images(model), read_points(model)
    assert binary[0] == text[0]
    by_name = {image.name: image for image in binary[1]}
    for image in text[1]:
        assert by_name[image.name].camera == image.camera
        np.testing.assert_allclose(by_name[image.name].world_to_camera, image.world_to_camera, atol=1e-12)
    assert text[2] is not None and binary[2] is not None
    order = binary[2][1][:, 0].argsort()
    np.testing.assert_array_equal(binary[2][0][order], text[2][0])
    np.testing.assert_array_equal(binary[2][1][order], text[2][1])


@pytest.mark.parametrize("binary", [False, True])
def test_coordinates_of_maps_keep_their_precision(tmp_path: Path, cameras: list[KnownCamera], binary: bool) -> None:
    write_model(tmp_path, ["a.jpg"], cameras[:1], POINTS + FAR)
    if binary:
        to_binary(tmp_path)
    points = read_points(tmp_path)
    assert points is not None
    np.testing.assert_allclose(points[0][points[1][:, 0].argsort()], POINTS + FAR, rtol=0, atol=1e-9)


def test_camera_models_are_those_of_the_installed_colmap() -> None:
    import pycolmap

    theirs = {}
    for name in PARAMETERS:
        identifier = pycolmap.CameraModelId.__members__[name]
        theirs[name] = int(identifier.value), len(pycolmap.Camera.create_from_model_name(1, name, 1, 2, 2).params)
    assert theirs == {name: (i, count) for i, (name, count) in enumerate(PARAMETERS.items())}


@pytest.mark.parametrize("lie", [10**6, 10**12, 2**64 - 1])
@pytest.mark.parametrize(
    ("name", "at", "read"),
    [
        ("cameras.bin", 0, read_cameras),
        ("images.bin", 0, read_images),
        ("images.bin", 8 + 64 + len("0.jpg\0"), read_images),
        ("points3D.bin", 0, read_points),
        ("points3D.bin", 8 + 43, read_points),
    ],
    ids=["cameras", "photos", "2D points", "points", "track"],
)
def test_counts_that_exceed_the_file(model: Path, name: str, at: int, read: object, lie: int) -> None:
    to_binary(model)
    contents = bytearray((model / name).read_bytes())
    contents[at : at + 8] = struct.pack("<Q", lie)
    (model / name).write_bytes(contents)
    assert callable(read)
    with pytest.raises(InputError, match=f"{name} cannot be read.*cut off") as caught:
        read(model)
    assert "\n" not in str(caught.value)


def test_a_camera_model_of_the_future(model: Path) -> None:
    to_binary(model)
    contents = bytearray((model / "cameras.bin").read_bytes())
    contents[12:16] = struct.pack("<i", 99)
    (model / "cameras.bin").write_bytes(contents)
    with pytest.raises(InputError, match="unknown camera model 99"):
        read_cameras(model)


@pytest.mark.parametrize("name", ["images.bin", "cameras.bin"])
def test_pipes_are_not_waited_for(model: Path, name: str) -> None:
    to_binary(model)
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(InputError, match="not a file"):
        read_images(model) if name == "images.bin" else read_cameras(model)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_text_in_encodings_of_windows(model: Path, cameras: list[KnownCamera], encoding: str) -> None:
    write_model(model, [f"Küche {i}.jpg" for i in range(4)], cameras)
    expected = read_cameras(model), read_images(model)
    for path in model.iterdir():
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    cameras_read, images = read_cameras(model), read_images(model)
    assert cameras_read == expected[0]
    assert (
        [image.name for image in images]
        == [image.name for image in expected[1]]
        == [f"Küche {i}.jpg" for i in range(4)]
    )
    points = read_points(model)
    assert points is not None
    np.testing.assert_array_equal(points[0], POINTS)


def test_binary_names_in_the_code_page_of_windows(model: Path) -> None:
    to_binary(model, [f"Küche {i}.jpg" for i in range(4)])
    path = model / "images.bin"
    path.write_bytes(path.read_bytes().replace("ü".encode(), "ü".encode("cp1252")))
    assert sorted(image.name for image in read_images(model)) == [f"Küche {i}.jpg" for i in range(4)]


def test_sizes_with_a_decimal_point(model: Path) -> None:
    (model / "cameras.txt").write_text("1 PINHOLE 1920.0 1080.0 900 900 960 540\n")
    assert [(camera.width, camera.height) for camera in read_cameras(model).values()] == [(1920, 1080)]
    for size in ("1920.5", "nan", "inf"):
        (model / "cameras.txt").write_text(f"1 PINHOLE {size} 1080 900 900 960 540\n")
        with pytest.raises(
            InputError, match=rf"cameras\.txt cannot be read \('{size}' is not a whole number of pixels"
        ):
            read_cameras(model)


def test_points_of_3dgs_instead_of_colmaps(model: Path) -> None:
    expected = read_colmap_points(model, np.eye(4)[:3])
    assert expected is not None
    (model / "points3D.txt").unlink()
    rows = np.empty(
        len(POINTS), [*((axis, "<f8") for axis in "xyz"), *((name, "u1") for name in ("red", "green", "blue"))]
    )
    for name, values in zip(rows.dtype.names or (), [*expected[0].T, *expected[1].T], strict=True):
        rows[name] = values
    plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")]).write(model / "points3D.ply")
    points = read_colmap_points(model, np.eye(4)[:3])
    assert points is not None
    np.testing.assert_array_equal(points[0], expected[0])
    np.testing.assert_array_equal(points[1], expected[1])
