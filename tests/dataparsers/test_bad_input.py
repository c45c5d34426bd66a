# SPDX-License-Identifier: Apache-2.0
"""Every kind of bad input costs one line: a warning where the rest will do, an InputError where it won't."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

CopyScene = Callable[[], Path]


def parse(data: Path, split: str = "train", **options: Any) -> DataparserOutputs:
    options = {"triangulate_points": False, **options}  # the photos are too small for that, which would cost a warning
    return Img3dPhotosDataParserConfig(data=data, **options).setup().get_dataparser_outputs(split)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    meta = json.loads((folder / "transforms.json").read_text())
    change(meta)
    (folder / "transforms.json").write_text(json.dumps(meta))


def error_of(data: Path, split: str = "train", **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        parse(data, split, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def warnings_in(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("Warning: ")]


class TestNothingToRead:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        assert error_of(tmp_path / "nowhere") == f"there is no folder or file {tmp_path / 'nowhere'}"

    def test_no_such_json(self, tiny_scene: Path) -> None:
        assert "there is no folder" in error_of(tiny_scene / "other.json")

    def test_folder_without_photos(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        message = error_of(tmp_path)
        assert "there are no photos in" in message and "a folder of photos, or a video" in message

    @pytest.mark.parametrize("name", ["IMG_1.CR2", "sub/IMG_1.dng", "1.jxl", "1.gif"])
    def test_pictures_of_formats_that_are_not_read(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"II*\0")
        message = error_of(tmp_path)
        assert f"has pictures of formats that are not read ({Path(name).name}): convert them to JPEG" in message

    def test_file_where_a_folder_is_expected(self, tiny_scene: Path) -> None:
        assert "is neither a video nor a transforms.json" in error_of(tiny_scene / "images" / "000.png")

    def test_unreadable_transforms(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()
        (scene / "transforms.json").chmod(0)
        if os.access(scene / "transforms.json", os.R_OK):
            pytest.skip("this user may read everything")
        assert "cannot be read: Permission denied" in error_of(scene)

    def test_forbidden_file_is_an_error_of_one_line(
        self, copy_scene: CopyScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(path: Path, *args: object, **kwargs: object) -> str:
            raise PermissionError(13, "Permission denied", str(path))

        scene = copy_scene()
        monkeypatch.setattr(Path, "open", forbidden)
        assert error_of(scene) == f"{scene / 'transforms.json'} cannot be read: Permission denied"


class TestTransformsFile:
    @pytest.mark.parametrize("keep", [0, 1, 200, 1500])
    def test_truncated(self, copy_scene: CopyScene, keep: int) -> None:
        path = copy_scene() / "transforms.json"
        path.write_bytes(path.read_bytes()[:keep])
        assert "is not valid JSON" in error_of(path.parent)

    def test_not_text(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()
        (scene / "transforms.json").write_bytes(b"\xff\xfe\x00\x81")
        assert "is not valid JSON" in error_of(scene)

    @pytest.mark.parametrize("content", ["{}", "[]", "3", '{"frames": []}', '{"frames": {}}', '{"frames": [1, 2, 3]}'])
    def test_no_frames(self, copy_scene: CopyScene, content: str) -> None:
        scene = copy_scene()
        (scene / "transforms.json").write_text(content)
        assert "has no list of frames" in error_of(scene)

    def test_no_focal_length(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.pop("fl_x"))
        assert "has no focal length: give fl_x" in error_of(scene)

    @pytest.mark.parametrize(
        ("key", "value", "complaint"),
        [
            ("fl_x", "wide", "must be a finite number"),
            ("fl_x", -5, "must be positive"),
            ("cx", math.nan, "must be a finite number"),
            ("w", 0, "must be positive"),
            ("k4", 0.1, "has k4, which Nerfstudio"),
            ("distortion_params", [1, 2], "six numbers"),
            ("camera_model", "ORTHOPHOTO", "camera_model 'ORTHOPHOTO'"),
            ("applied_transform", [[1, 2], [3, 4]], "not an invertible 3x4 matrix"),
            ("applied_scale", 0, "must be a positive number"),
            ("train_filenames", "images", "must be lists of file names"),
        ],
    )
    def test_senseless_values(self, copy_scene: CopyScene, key: str, value: object, complaint: str) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update({key: value}))
        assert complaint in error_of(scene)

    def test_unreadable_seed_points_are_done_without(
        self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta.update(ply_file_path="gone.ply"))
        assert "points3D_xyz" not in parse(scene).metadata
        (warning,) = warnings_in(capsys.readouterr().out)
        assert "gone.ply" in warning and "random points" in warning


BROKEN_MATRICES: list[tuple[object, str]] = [
    (None, "no transform_matrix"),
    ([[1, 0], [0, 1]], "not 4x4 numbers"),
    ("identity", "not 4x4 numbers"),
    ([["a"] * 4] * 4, "not 4x4 numbers"),
    (np.full((4, 4), np.nan).tolist(), "NaN or infinity"),
    (np.diag([2.0, 1.0, 2.0, 1.0]).tolist(), "not a rotation"),
    (np.diag([1.0, 1.0, -1.0, 1.0]).tolist(), "not a rotation"),
    (np.zeros((4, 4)).tolist(), "not a rotation"),
]


class TestFrames:
    @pytest.mark.parametrize(("matrix", "defect"), BROKEN_MATRICES)
    def test_broken_poses_are_left_out(
        self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str], matrix: object, defect: str
    ) -> None:
        scene = copy_scene()

        def break_two(meta: dict[str, Any]) -> None:
            for i in (4, 7):
                meta["frames"][i]["transform_matrix"] = matrix

        edit(scene, break_two)
        parser = Img3dPhotosDataParserConfig(data=scene, triangulate_points=False).setup()
        train, val = parser.get_dataparser_outputs("train"), parser.get_dataparser_outputs("val")
        assert len(train.image_filenames) + len(val.image_filenames) == 14
        (warning,) = warnings_in(capsys.readouterr().out)  # once, though both splits were read
        assert warning.startswith("Warning: 2 of 16 photos have") and defect in warning
        assert "images/004.png, images/007.png" in warning

    def test_all_poses_broken(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()

        def break_most(meta: dict[str, Any]) -> None:
            for frame in meta["frames"][2:]:
                frame["transform_matrix"][0][3] = math.nan

        edit(scene, break_most)
        message = error_of(scene)
        assert "2 usable photos, at least 3 are needed" in message and "14 of 16 photos have NaN" in message
        assert "images/002.png" in message
        assert not warnings_in(capsys.readouterr().out), "the error already says it"

    def test_no_file_path(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta["frames"][5].pop("file_path"))
        parse(scene)
        assert "1 of 16 photos have no file_path (frame 5)" in warnings_in(capsys.readouterr().out)[0]

    def test_missing_photos(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()
        for i in (1, 2, 3, 4, 5):
            (scene / f"images/{i:03d}.png").unlink()
        train = parse(scene)
        (warning,) = warnings_in(capsys.readouterr().out)
        assert "5 of 16 photos do not exist (images/001.png, images/002.png, images/003.png, …)" in warning
        assert len(train.image_filenames) == 9

    def test_all_photos_missing(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()
        shutil.rmtree(scene / "images")
        assert "0 usable photos, at least 3 are needed: 16 of 16 photos do not exist" in error_of(scene)

    def test_duplicates(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta["frames"].append(meta["frames"][3]))
        assert len(parse(scene).image_filenames) == 14
        assert "1 of 17 photos are listed more than once (images/003.png)" in warnings_in(capsys.readouterr().out)[0]

    def test_cameras_that_coincide(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()

        def same_place(meta: dict[str, Any]) -> None:
            for frame in meta["frames"]:
                for row, value in zip(frame["transform_matrix"], (1e3, 2.0, 3.0), strict=False):
                    row[3] = value

        edit(scene, same_place)
        assert "all 16 cameras are at the same place" in error_of(scene)
        assert "parallax" in error_of(scene)


class TestScaledRotations:
    """As of cameras below a scaled parent in Blender, or of MatrixCity."""

    @pytest.mark.parametrize("scale", [0.01, 30.0])
    def test_the_scale_is_left_out(
        self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str], scale: float
    ) -> None:
        expected = parse(copy_scene(), triangulate_points=False)
        scene = copy_scene()

        def rescale(meta: dict[str, Any]) -> None:
            for frame in meta["frames"]:
                matrix = np.array(frame["transform_matrix"])
                matrix[:3, :3] *= scale
                frame["transform_matrix"] = matrix.tolist()

        edit(scene, rescale)
        outputs = parse(scene, triangulate_points=False)
        poses, unscaled = (each.cameras.camera_to_worlds.numpy() for each in (outputs, expected))
        np.testing.assert_allclose(poses, unscaled, rtol=0, atol=1e-7)
        [warning] = warnings_in(capsys.readouterr().out)
        assert f"16 of 16 photos have a rotation with a scale of {scale:g} (" in warning


class TestFarFromTheOrigin:
    def test_cameras_metres_apart_are_not_at_the_same_place(self, copy_scene: CopyScene) -> None:
        scene = copy_scene()

        def move(meta: dict[str, Any]) -> None:
            for frame in meta["frames"]:
                for row, offset in zip(frame["transform_matrix"], (4.6e5, 5.4e6, 300.0), strict=False):
                    row[3] += offset

        edit(scene, move)
        assert len(parse(scene, triangulate_points=False).image_filenames) == 14


class TestPhotoFiles:
    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    @pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
    def test_truncated_photo_among_good_ones(
        self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str], suffix: str, part: float
    ) -> None:
        scene = copy_scene()
        path = scene / f"images/[bold]broken.{suffix}"  # a name that rich would take for markup
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        edit(scene, lambda meta: meta["frames"][4].update(file_path=f"images/{path.name}"))
        parse(scene)
        (warning,) = warnings_in(capsys.readouterr().out)
        assert f"1 of 16 photos are damaged or cannot be read (images/{path.name})" in warning

    def test_photo_that_is_no_picture(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()
        (scene / "images/004.png").write_text("404 not found")
        parse(scene)
        assert "damaged or cannot be read (images/004.png)" in warnings_in(capsys.readouterr().out)[0]

    def test_photo_of_another_shape_than_its_camera(
        self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        scene = copy_scene()
        Image.new("RGB", (200, 100)).save(scene / "images/004.png")
        assert len(parse(scene).image_filenames) == 13
        (warning,) = warnings_in(capsys.readouterr().out)
        assert "1 of 16 photos have another shape than their camera (w, h) (images/004.png)" in warning

    def test_missing_mask(self, copy_scene: CopyScene, capsys: pytest.CaptureFixture[str]) -> None:
        scene = copy_scene()
        edit(scene, lambda meta: meta["frames"][2].update(mask_path="gone.png"))
        assert parse(scene).mask_filenames is None
        (warning,) = warnings_in(capsys.readouterr().out)
        assert "1 missing or damaged mask (images/002.png)" in warning


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"downscale_factor": 0.0}, "--downscale-factor is 0.0"),
            ({"downscale_factor": math.nan}, "--downscale-factor is nan"),
            ({"max_image_size": 0}, "--max-image-size is 0"),
            ({"eval_interval": 0}, "--eval-interval is 0"),
            ({"eval_interval": 1}, "none of the 16 photos is left to train on"),
            ({"eval_mode": "filename"}, "train/eval"),
            ({"eval_mode": "fraction", "train_split_fraction": 1.5}, "--train-split-fraction is 1.5"),
        ],
    )
    def test_senseless_options(self, tiny_scene: Path, options: dict[str, Any], complaint: str) -> None:
        assert complaint in error_of(tiny_scene, **options)

    def test_nothing_held_out(self, tiny_scene: Path) -> None:
        message = error_of(tiny_scene, "val", eval_mode="fraction", train_split_fraction=1.0)
        assert "none of the 16 photos is held out" in message


class TestColmap:
    @pytest.mark.parametrize("model", ["", "1 NO_SUCH_MODEL 64 48 60 60 32 24\n", "1 PINHOLE 64\n"])
    def test_unreadable_model(self, tiny_scene: Path, tmp_path: Path, model: str) -> None:
        (tmp_path / "sparse/0").mkdir(parents=True)
        (tmp_path / "sparse/0/cameras.txt").write_text(model)
        (tmp_path / "sparse/0/images.txt").write_text("1 1 0 0 0 0 0 0 1 000.png\n\n")
        assert "COLMAP model" in error_of(tmp_path)

    def test_truncated_binary_model(self, tmp_path: Path) -> None:
        (tmp_path / "sparse/0").mkdir(parents=True)
        (tmp_path / "sparse/0/cameras.bin").write_bytes(b"\x02\x00\x00")
        assert "cannot be read" in error_of(tmp_path)


@pytest.mark.parametrize("poses_without_photos", [False, True])
def test_nerf_synthetic_without_held_out_photos(
    copy_scene: CopyScene, capsys: pytest.CaptureFixture[str], poses_without_photos: bool
) -> None:
    """BlenderNeRF writes the poses of a test path, and renders none of it."""
    scene = copy_scene()
    meta = json.loads((scene / "transforms.json").read_text())
    (scene / "transforms.json").rename(scene / "transforms_train.json")
    if poses_without_photos:
        for i, frame in enumerate(meta["frames"]):
            frame["file_path"] = f"test/{i:03}"
        (scene / "transforms_test.json").write_text(json.dumps(meta))
    train, held_out = parse(scene), parse(scene, "val")
    assert (len(train.image_filenames), len(held_out.image_filenames)) == (14, 2)
    assert not set(train.image_filenames) & set(held_out.image_filenames)
    assert "every 8th training photo is held out instead" in capsys.readouterr().out
