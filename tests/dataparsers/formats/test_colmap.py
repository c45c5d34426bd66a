# SPDX-License-Identifier: Apache-2.0
"""COLMAP models, text and binary, wherever they and their photos lie: cameras that see known points where they are."""

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
    assert_cameras_see_the_points,
    cameras_of,
    points_of,
    write_photo,
)
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError
from img3d_dataparsers.formats.colmap import find_reconstruction, is_reconstruction, read_colmap
from img3d_dataparsers.usable_photos import usable_photos

POINTS = points_of(np.random.default_rng(2))


def write_model(folder: Path, names: list[str], cameras: list[KnownCamera], points: FloatArray = POINTS) -> None:
    """A text model by https://colmap.github.io/format.html: world to camera, numbered in another order than by name."""
    folder.mkdir(parents=True, exist_ok=True)
    camera_lines, image_lines = ["# cameras\n"], ["# images\n"]
    for i, (name, camera) in enumerate(zip(names, cameras, strict=True)):
        x, y, z, w = Rotation.from_matrix(camera.rotation).as_quat().tolist()
        number = 100 - i
        pose = " ".join(map(repr, [w, x, y, z, *camera.translation.tolist()]))
        size = f"{camera.width} {camera.height}"
        camera_lines.append(f"{number} PINHOLE {size} {camera.fx!r} {camera.fy!r} {camera.cx!r} {camera.cy!r}\n")
        image_lines.append(f"{number} {pose} {number} {name}\n\n")
    (folder / "cameras.txt").write_text("".join(camera_lines))
    (folder / "images.txt").write_text("".join(image_lines))
    lines = [f"{i + 1} {x!r} {y!r} {z!r} {i} 20 30 0.5\n" for i, (x, y, z) in enumerate(points.tolist())]
    (folder / "points3D.txt").write_text("".join(lines))


def to_binary(model: Path, names: list[str] | None = None) -> None:
    """Has COLMAP write its binary files; `names` restores those with spaces, at which its text reader cuts them."""
    import pycolmap

    reconstruction = pycolmap.Reconstruction(model)
    for i, name in enumerate(names or []):
        reconstruction.images[100 - i].name = name
    for path in list(model.iterdir()):
        path.unlink()
    reconstruction.write_binary(model)


def write_data_set(folder: Path, cameras: list[KnownCamera], model: str, photos: str, prefix: str = "") -> list[str]:
    names = [f"{prefix}Photo à {i}.jpg" for i in range(len(cameras))]
    paths = [(Path(photos) / name).as_posix() for name in names]
    for path, camera in zip(paths, cameras, strict=True):
        write_photo(folder / path, camera.width, camera.height)
    write_model(folder / model, names, cameras)
    return paths


class TestCameras:
    @given(seed=SEEDS, binary=st.booleans())
    @settings(max_examples=10, deadline=None)
    def test_they_see_known_points(self, seed: int, binary: bool) -> None:
        rng = np.random.default_rng(seed)
        cameras = cameras_of(rng, 3)
        with tempfile.TemporaryDirectory() as name:
            paths = write_data_set(Path(name), cameras, "sparse/0", "images")
            if binary:
                to_binary(Path(name) / "sparse/0", [Path(path).name for path in paths])
            posed = read_colmap(Path(name), Path(name) / "sparse/0")
            assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), points_of(rng))

    @pytest.mark.parametrize("model", ["colmap/sparse/0", "sparse/0", "sparse"])
    def test_where_a_model_is_found(self, tmp_path: Path, cameras: list[KnownCamera], model: str) -> None:
        write_data_set(tmp_path, cameras, model, "images")
        assert find_reconstruction(tmp_path) == tmp_path / model

    @pytest.mark.parametrize(
        ("model", "photos"),
        [
            ("dense/sparse", "dense/images"),
            ("dense/0/sparse", "dense/0/images"),
            ("colmap_sparse/0", "images"),
            ("colmap_text", "images"),
            ("distorted/sparse/0", "input"),
        ],
    )
    def test_folders_of_other_programs(
        self, tmp_path: Path, cameras: list[KnownCamera], model: str, photos: str
    ) -> None:
        """With photos of the same names, but other lenses, in `images` beside them."""
        paths = write_data_set(tmp_path, cameras, model, photos)
        for path in paths:
            write_photo(tmp_path / "images" / Path(path).name)
        assert find_reconstruction(tmp_path) == tmp_path / model
        posed = read_colmap(tmp_path, tmp_path / model)
        assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)

    @pytest.mark.parametrize("model", ["sparse", "."])
    @pytest.mark.parametrize("photos", ["images", "."])
    @pytest.mark.parametrize("prefix", ["", "left/"])
    def test_where_photos_are_found(
        self, tmp_path: Path, cameras: list[KnownCamera], model: str, photos: str, prefix: str
    ) -> None:
        paths = write_data_set(tmp_path, cameras, model, photos, prefix)
        posed = read_colmap(tmp_path, tmp_path / model)
        assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)

    def test_names_that_begin_with_images(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        """As from `colmap automatic_reconstructor` with the data set itself for --image_path."""
        paths = write_data_set(tmp_path, cameras, "sparse", ".", "images/")
        posed = read_colmap(tmp_path, tmp_path / "sparse")
        assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)

    def test_a_relative_path(self, tmp_path: Path, cameras: list[KnownCamera], monkeypatch: pytest.MonkeyPatch) -> None:
        paths = write_data_set(tmp_path / "data", cameras, "sparse", "images")
        monkeypatch.chdir(tmp_path)
        posed = read_colmap(Path("data"), Path("data/sparse"))
        assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)

    def test_missing_photos_are_looked_for_in_images(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_model(tmp_path / "sparse", [f"{i}.jpg" for i in range(4)], cameras)
        [first, *_] = read_colmap(tmp_path, tmp_path / "sparse").frames
        assert first.image_path == tmp_path / "images" / "0.jpg"


class TestSeveralModels:
    def test_the_one_with_most_photos_is_used(
        self, tmp_path: Path, cameras: list[KnownCamera], capsys: pytest.CaptureFixture[str]
    ) -> None:
        paths = write_data_set(tmp_path, cameras, "sparse/1", "images")
        write_model(tmp_path / "sparse/0", [Path(path).name for path in paths[:3]], cameras[:3])
        write_model(tmp_path / "sparse/10", [Path(path).name for path in paths[:2]], cameras[:2])
        to_binary(tmp_path / "sparse/10")
        model = find_reconstruction(tmp_path)
        assert model == tmp_path / "sparse/1"
        assert len(read_colmap(tmp_path, model).frames) == 4
        [warning] = capsys.readouterr().out.splitlines()
        assert "there are 3 COLMAP models" in warning
        assert warning.endswith("sparse/1 with 4 (not sparse/0 with 3, sparse/10 with 2)")

    def test_the_first_of_equals(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        for number in (10, 2):
            write_data_set(tmp_path, cameras, f"sparse/{number}", "images")
        assert find_reconstruction(tmp_path) == tmp_path / "sparse/2"

    def test_a_damaged_one_beside_is_passed_over(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_data_set(tmp_path, cameras, "sparse/1", "images")
        (tmp_path / "sparse/0").mkdir()
        (tmp_path / "sparse/0/cameras.bin").write_bytes(b"?")
        assert find_reconstruction(tmp_path) == tmp_path / "sparse/1"


def test_poses_without_pictures_say_where_to_put_them(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    write_model(tmp_path / "sparse/0", [f"{i}.jpg" for i in range(4)], cameras)
    posed = read_colmap(tmp_path, tmp_path / "sparse/0")
    with pytest.raises(InputError, match=f"4 of 4 photos do not exist.*put the photos .* into {tmp_path}/images$"):
        usable_photos(posed, at_least=3)


class TestScaledQuaternions:
    @pytest.mark.parametrize("binary", [False, True])
    def test_their_length_does_not_matter(
        self, tmp_path: Path, cameras: list[KnownCamera], capsys: pytest.CaptureFixture[str], binary: bool
    ) -> None:
        paths = write_data_set(tmp_path, cameras, "sparse/0", "images")
        if binary:
            to_binary(tmp_path / "sparse/0", [Path(path).name for path in paths])
            path = tmp_path / "sparse/0/images.bin"
            contents = bytearray(path.read_bytes())
            contents[12:44] = (7 * np.frombuffer(contents[12:44])).tobytes()
            path.write_bytes(contents)
        else:
            path = tmp_path / "sparse/0/images.txt"
            number, *rest = path.read_text().splitlines()[1].split(" ")
            scaled = [repr(7 * float(value)) for value in rest[:4]]
            path.write_text(path.read_text().replace(" ".join(rest[:4]), " ".join(scaled), 1))
        posed = read_colmap(tmp_path, tmp_path / "sparse/0")
        assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)
        [warning] = capsys.readouterr().out.splitlines()
        assert "1 of 4 photos have a quaternion whose length is not 1" in warning


def test_text_without_lines_of_2d_points(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    paths = write_data_set(tmp_path, cameras, "sparse/0", "images")
    path = tmp_path / "sparse/0/images.txt"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line))
    posed = read_colmap(tmp_path, tmp_path / "sparse/0")
    assert_cameras_see_the_points(posed, dict(zip(paths, cameras, strict=True)), POINTS)


class TestModelInTheFolderItself:
    @pytest.mark.parametrize("binary", [False, True])
    def test_it_is_recognised(self, tmp_path: Path, cameras: list[KnownCamera], binary: bool) -> None:
        write_data_set(tmp_path, cameras, "model", "images")
        if binary:
            to_binary(tmp_path / "model")
        assert is_reconstruction(tmp_path / "model") and not is_reconstruction(tmp_path)

    def test_cameras_alone_could_be_anything(self, tmp_path: Path) -> None:
        (tmp_path / "cameras.txt").write_text("Nikon, Canon")
        (tmp_path / "images.bin").write_bytes(b"")
        assert not is_reconstruction(tmp_path)


class TestSeedPoints:
    @pytest.mark.parametrize("binary", [False, True])
    def test_they_are_the_models(self, tmp_path: Path, cameras: list[KnownCamera], binary: bool) -> None:
        write_data_set(tmp_path, cameras, "sparse", "images")
        if binary:
            to_binary(tmp_path / "sparse")
        posed = read_colmap(tmp_path, tmp_path / "sparse")
        points = posed.read_seed_points()
        assert points is not None
        order = points[1][:, 0].argsort()  # the colours number them
        np.testing.assert_allclose(points[0][order], POINTS @ posed.applied_transform[:, :3].T, rtol=0, atol=1e-12)
        assert points[1][order].tolist() == [[i, 20, 30] for i in range(20)]

    @pytest.mark.parametrize("content", [None, "", "# 3D point list\n"])
    def test_none_is_no_error(
        self,
        tmp_path: Path,
        cameras: list[KnownCamera],
        capsys: pytest.CaptureFixture[str],
        content: str | None,
    ) -> None:
        write_data_set(tmp_path, cameras, "sparse", "images")
        (tmp_path / "sparse" / "points3D.txt").unlink()
        if content is not None:
            (tmp_path / "sparse" / "points3D.txt").write_text(content)
        assert read_colmap(tmp_path, tmp_path / "sparse").read_seed_points() is None
        assert capsys.readouterr().out == ""

    def test_none_in_a_binary_model_is_no_error(self, tmp_path: Path, cameras: list[KnownCamera]) -> None:
        write_data_set(tmp_path, cameras, "sparse", "images")
        (tmp_path / "sparse" / "points3D.txt").write_text("")
        to_binary(tmp_path / "sparse")
        assert read_colmap(tmp_path, tmp_path / "sparse").read_seed_points() is None


@pytest.mark.parametrize("name", ["cameras", "images"])
@pytest.mark.parametrize("binary", [False, True])
def test_a_truncated_model_is_one_line(tmp_path: Path, cameras: list[KnownCamera], name: str, binary: bool) -> None:
    write_data_set(tmp_path, cameras, "sparse", "images")
    if binary:
        to_binary(tmp_path / "sparse")
    path = tmp_path / "sparse" / f"{name}{'.bin' if binary else '.txt'}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_colmap(tmp_path, tmp_path / "sparse")
    assert "\n" not in str(caught.value)
