# SPDX-License-Identifier: Apache-2.0
"""Every format finds its photos where their names have changed since the poses were made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_recognise import WRITERS

from img3d_dataparsers.formats.recognise import posed_photos_in
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.usable_photos import UsablePhoto, usable_photos

PICTURES = (".jpg", ".png")


def pictures(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES]


def upper_case(folder: Path) -> None:
    for path in pictures(folder):
        path.rename(path.with_suffix(path.suffix.upper()))


def other_format(folder: Path) -> None:
    for path in pictures(folder):
        Image.open(path).save(path.with_suffix(".tif"))
        path.unlink()


def linked_folder(folder: Path) -> None:
    for parent in {path.parent for path in pictures(folder)} - {folder}:
        disk = folder.parent / "disk" / parent.relative_to(folder)
        disk.parent.mkdir(parents=True, exist_ok=True)
        parent.rename(disk)
        parent.symlink_to(disk)


def read(folder: Path) -> list[UsablePhoto]:
    posed = posed_photos_in(folder, "train")
    assert posed is not None
    return usable_photos(posed, 3)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("change", [upper_case, other_format, linked_folder])
def test_the_same_cameras_as_before(tmp_path: Path, name: str, change: Callable[[Path], None]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    WRITERS[name][0](data)
    before = {photo.image_path.stem: photo for photo in read(data)}
    change(data)
    after = {photo.image_path.stem: photo for photo in read(data)}
    assert after.keys() == before.keys() and len(after) == 4
    for stem, photo in after.items():
        assert photo.intrinsics == before[stem].intrinsics
        np.testing.assert_array_equal(photo.camera_to_world, before[stem].camera_to_world)


def test_lists_of_a_split_name_photos_as_freely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    WRITERS["transforms.json"][0](tmp_path)
    (tmp_path / "test_list.txt").write_text("\ufeffIMAGES\\3.JPG\r\n", encoding="utf-8")
    parser = Img3dPhotosDataParserConfig(data=tmp_path, triangulate_points=False).setup()
    held_out = parser.get_dataparser_outputs("test").image_filenames
    assert held_out == [tmp_path / "images/3.png"]
    assert len(parser.get_dataparser_outputs("train").image_filenames) == 3
    assert "1 photo is listed with another suffix" in capsys.readouterr().out


def test_what_a_transforms_file_lists_as_splits_is_found_like_its_frames(tmp_path: Path) -> None:
    WRITERS["transforms.json"][0](tmp_path)
    text = (tmp_path / "transforms.json").read_text()
    lists = '"test_filenames": ["D:\\\\x\\\\images\\\\1.png"], "frames"'
    text = text.replace("images/", "D:\\\\x\\\\images\\\\").replace('"frames"', lists)
    (tmp_path / "transforms.json").write_text(text)
    parser = Img3dPhotosDataParserConfig(data=tmp_path, triangulate_points=False).setup()
    assert parser.get_dataparser_outputs("test").image_filenames == [tmp_path / "images/1.png"]
