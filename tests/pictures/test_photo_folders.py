# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are photos, and which mask belongs to which photo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from img3d_dataparsers.inputs import photo_folder
from img3d_pictures.photo_folders import image_files, masks_of


def lay(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def photos(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in image_files(folder)]


def masks(folder: Path, *names: str) -> list[str | None]:
    found = masks_of([folder / name for name in names], folder)
    return [None if mask is None else mask.relative_to(folder).as_posix() for mask in found]


class TestPhotos:
    def test_folders_that_are_links(self, tmp_path: Path) -> None:
        lay(tmp_path, "disk/photos/1.jpg", "disk/photos/more/2.jpg", "data/notes.txt")
        (tmp_path / "data/images").symlink_to("../disk/photos")
        assert photos(tmp_path / "data") == ["images/1.jpg", "images/more/2.jpg"]
        (tmp_path / "link").symlink_to("data")
        assert photos(tmp_path / "link") == ["images/1.jpg", "images/more/2.jpg"]

    def test_links_that_are_text(self, tmp_path: Path) -> None:
        """As git and unzip write links where there are none: of folders, of photos, to other links."""
        lay(tmp_path, "disk/photos/1.jpg", "disk/photos/more/2.jpg", "disk/3.jpg", "data/4.jpg")
        for name, text in {"images": "../disk/photos", "3.jpg": "../disk/3.jpg", "a": "."}.items():
            (tmp_path / "data" / name).write_text(text)
        assert photos(tmp_path / "data") == ["3.jpg", "4.jpg", "images/1.jpg", "images/more/2.jpg"]
        (tmp_path / "link").write_text("data")
        assert image_files(tmp_path / "link") == [
            tmp_path / "link" / name for name in ("3.jpg", "4.jpg", "images/1.jpg", "images/more/2.jpg")
        ]

    def test_links_in_circles(self, tmp_path: Path) -> None:
        lay(tmp_path, "a/1.jpg")
        (tmp_path / "a/again").symlink_to(tmp_path)
        (tmp_path / "b").symlink_to("a")
        (tmp_path / "self.jpg").symlink_to("self.jpg")
        assert photos(tmp_path) == ["a/1.jpg"]

    def test_folders_of_other_programs_hold_none(self, tmp_path: Path) -> None:
        """Thumbnails of Synology's and other programs, what macOS adds to archives, deleted files."""
        lay(tmp_path, "1.jpg", "2.jfif", "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "thumbnails/1.jpg", "Thumbs/1.jpg")
        lay(tmp_path, "__MACOSX/1.jpg", "$RECYCLE.BIN/3.jpg", "#recycle/4.jpg")
        assert photos(tmp_path) == ["1.jpg", "2.jfif"]

    def test_pipes_are_no_photos(self, tmp_path: Path) -> None:
        lay(tmp_path, "1.jpg")
        os.mkfifo(tmp_path / "2.jpg")
        assert photos(tmp_path) == ["1.jpg"]

    def test_reduced_copies_where_there_is_nothing_else(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lay(tmp_path, "images_8/1.jpg", "images_4/1.jpg", "masks/1.png")
        assert photos(tmp_path) == ["images_4/1.jpg"]
        assert photo_folder(tmp_path, None) == tmp_path
        assert f"there are only reduced copies of photos; those in {tmp_path / 'images_4'}" in capsys.readouterr().out
        lay(tmp_path, "images/1.jpg")
        assert photos(tmp_path) == ["images/1.jpg"]
        assert photo_folder(tmp_path, None) == tmp_path
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize("name", ["1_mask.png", "1.jpg.mask.png", "1.mask.png", "1.jpg.png", "1_MASK.PNG"])
    def test_masks_beside_photos_are_none(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "images/1.jpg", f"images/{name}", "images/2_mask.png")
        assert photos(tmp_path) == ["images/1.jpg", "images/2_mask.png"]  # there is no 2

    @pytest.mark.parametrize("folder", ["mask", "Masks", "MASKS"])
    def test_folders_of_masks(self, tmp_path: Path, folder: str) -> None:
        lay(tmp_path, "images/1.jpg", f"{folder}/1.png", f"images/{folder}/1.png")
        assert photos(tmp_path) == ["images/1.jpg"]


class TestMasks:
    @pytest.mark.parametrize("name", ["1.png", "1.jpg.png", "1.jpg", "1.PNG", "1_mask.png", "1.jpg.mask.png", "1.bmp"])
    @pytest.mark.parametrize("folder", ["masks", "Masks", "mask", "images/masks"])
    def test_in_a_folder_of_their_own(self, tmp_path: Path, folder: str, name: str) -> None:
        lay(tmp_path, "images/1.jpg", f"{folder}/{name}", f"{folder}/10.png")
        assert masks(tmp_path, "images/1.jpg") == [f"{folder}/{name}"]

    @pytest.mark.parametrize("name", ["1_mask.png", "1.jpg.mask.png", "1.mask.png", "1.jpg.png", "1.jpg_mask.png"])
    def test_beside_the_photo(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
        lay(tmp_path, "images/1.jpg", "images/2.jpg", f"images/{name}")
        assert masks(tmp_path, "images/1.jpg", "images/2.jpg") == [f"images/{name}", None]
        assert capsys.readouterr().out == f"Masks: 1 are beside their photos ({name})\n"

    @pytest.mark.parametrize(
        "mask", ["masks/images/left/1.png", "masks/left/1.png", "images/masks/left/1.png", "images/left/masks/1.png"]
    )
    def test_of_photos_in_sub_folders(self, tmp_path: Path, mask: str) -> None:
        lay(tmp_path, "images/left/1.jpg", "images/right/1.jpg", mask)
        assert masks(tmp_path, "images/left/1.jpg", "images/right/1.jpg") == [mask, None]

    def test_links_that_are_text(self, tmp_path: Path) -> None:
        """Masks are called after the links of their photos, and may be links themselves."""
        lay(tmp_path, "disk/IMG_7.jpg", "disk/IMG_8.jpg", "data/masks/1.png", "disk/b.png")
        for name, text in {"1.jpg": "../../disk/IMG_7.jpg", "2.jpg": "../../disk/IMG_8.jpg"}.items():
            lay(tmp_path, f"data/images/{name}")
            (tmp_path / "data/images" / name).write_text(text)
        (tmp_path / "data/masks/2.png").write_text("../../disk/b.png")
        assert masks(tmp_path / "data", "images/1.jpg", "images/2.jpg") == ["masks/1.png", "masks/2.png"]

    def test_beside_images_in_a_sub_folder(self, tmp_path: Path) -> None:
        lay(tmp_path, "scan/images/1.jpg", "scan/masks/1.png")
        assert masks(tmp_path, "scan/images/1.jpg") == ["scan/masks/1.png"]

    def test_beside_the_folder_that_was_given(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "masks/1.png")
        assert masks_of([tmp_path / "images/1.jpg"], tmp_path / "images") == [tmp_path / "masks/1.png"]

    def test_of_photos_elsewhere(self, tmp_path: Path) -> None:
        lay(tmp_path, "photos/1.jpg", "masks/1.png", "data/x")
        assert masks_of([tmp_path / "photos/1.jpg"], tmp_path / "data") == [tmp_path / "masks/1.png"]

    def test_one_of_the_same_name_for_two_folders(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lay(tmp_path, "left/1.jpg", "right/1.jpg", "masks/1.png", "left/2.jpg", "masks/2.png")
        assert masks(tmp_path, "left/1.jpg", "right/1.jpg", "left/2.jpg") == [None, None, "masks/2.png"]
        assert "1 mask could belong to photos in several folders" in capsys.readouterr().out

    def test_a_photo_is_no_mask(self, tmp_path: Path) -> None:
        lay(tmp_path, "1.jpg", "1_mask.jpg")
        assert masks(tmp_path, "1.jpg", "1_mask.jpg") == [None, None]

    def test_a_cut_out_in_place_of_the_listed_photo(self, tmp_path: Path) -> None:
        """Masks are still called after the JPEGs."""
        lay(tmp_path, "images/1.png", "masks/1.jpg.png")
        assert masks(tmp_path, "images/1.png") == ["masks/1.jpg.png"]
