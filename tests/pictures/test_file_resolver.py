# SPDX-License-Identifier: Apache-2.0
"""Files that a data set names otherwise than they are: found by one ladder, with a line for what was assumed."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img3d_pictures import file_resolver
from img3d_pictures.file_resolver import FileResolver, Kind, folders_below, is_file

PHOTOS = Kind("photos", (".png", ".jpg", ".jpeg"), are_photos=True)
MASKS = Kind("masks", (".png", ".jpg"))


def lay(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(folder: Path, *names: str, kind: Kind = PHOTOS, prefixes: tuple[str, ...] = ("",)) -> tuple[list[str], str]:
    """Where files were found, relative to the folder ("" for those that were not), and the lines about it."""
    files = FileResolver(folder, prefixes)
    paths = files.find(names, kind)
    lines = files.assumptions
    assert all(line.isprintable() for line in lines)
    return [os.path.relpath(path, folder) if is_file(path) else "" for path in paths], "\n".join(lines)


class TestSeparators:
    def test_of_windows(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/left/1.jpg", "images/left/2.jpg")
        paths, line = found(tmp_path, r"images\left\1.jpg", r".\images\left\2.jpg")
        assert paths == ["images/left/1.jpg", "images/left/2.jpg"]
        assert "2 photos are listed with backslashes" in line and "\n" not in line

    def test_names_with_a_backslash_in_them_win(self, tmp_path: Path) -> None:
        lay(tmp_path, r"images\1.jpg", "images/1.jpg", r"images/a\b.jpg")
        assert found(tmp_path, r"images\1.jpg") == ([r"images\1.jpg"], "")
        paths, line = found(tmp_path, r"/home/somebody/images/a\b.jpg")
        assert paths == [r"images/a\b.jpg"] and "not at the listed path" in line

    @pytest.mark.parametrize("start", ["C:\\", "C:/", "D:\\Users\\me\\", r"\\server\share\\", "E:"])
    def test_drives_and_servers(self, tmp_path: Path, start: str) -> None:
        lay(tmp_path, "images/1.jpg")
        paths, line = found(tmp_path, start + r"scene\images\1.jpg")
        assert paths == ["images/1.jpg"] and "not at" in line and "\n" not in line


class TestLinksThatAreText:
    """As git and unzip write links where there are none."""

    def test_of_folders_and_of_files(self, tmp_path: Path) -> None:
        lay(tmp_path, "disk/photos/1.jpg", "disk/photos/2.jpg", "disk/3.jpg", "data/x")
        (tmp_path / "data/images").write_text("../disk/photos")
        (tmp_path / "data/3.jpg").write_text("../disk/3.jpg")
        paths, line = found(tmp_path / "data", "images/1.jpg", "images/2.jpg", "3.jpg", "4.jpg")
        assert paths == ["images/1.jpg", "images/2.jpg", "3.jpg", ""]
        assert line == (
            "photos are behind 2 links that git or unzip wrote as text files: "
            f"{tmp_path}/data/images is {tmp_path}/disk/photos"
        )

    def test_on_every_rung(self, tmp_path: Path) -> None:
        lay(tmp_path, "disk/photos/Left/1.JPG", "data/x")
        (tmp_path / "data/images_2").write_text("../disk/photos")
        paths, line = found(tmp_path / "data", r"C:\scene\images\left\1.png")
        assert paths == ["images_2/Left/1.JPG"]
        assert "reduced" in line and "another suffix" in line and "behind a link" in line

    def test_what_leads_to_no_file_is_damaged(self, tmp_path: Path) -> None:
        lay(tmp_path, "1.jpg")
        os.mkfifo(tmp_path / "pipe")
        for text in ("pipe", "/dev/zero", "1.jpg", "nowhere"):
            (tmp_path / "1.jpg").write_text(text)
            assert found(tmp_path, "1.jpg") == (["1.jpg"], "")


class TestPlaces:
    @pytest.mark.parametrize("name", ["/home/me/scene/images/1.jpg", "../../scene/images/1.jpg", "scene/images/1.jpg"])
    def test_the_tail_of_a_path(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "images/1.jpg", "other/images/1.jpg")
        paths, line = found(tmp_path, name)
        assert paths == ["images/1.jpg"]
        assert line.startswith("1 photo is not at the listed path: ")

    def test_the_longest_tail(self, tmp_path: Path) -> None:
        lay(tmp_path, "front/1.jpg", "back/1.jpg", "1.jpg", "images/1.jpg")
        assert found(tmp_path, "/a/b/front/1.jpg", "/a/b/back/1.jpg")[0] == ["front/1.jpg", "back/1.jpg"]

    def test_the_nearest_folder_below(self, tmp_path: Path) -> None:
        lay(tmp_path, "scan/images/1.jpg", "a/b/images/1.jpg")
        assert found(tmp_path, "images/1.jpg")[0] == ["scan/images/1.jpg"]

    def test_two_equally_near(self, tmp_path: Path) -> None:
        lay(tmp_path, "a/images/1.jpg", "b/images/1.jpg")
        paths, line = found(tmp_path, "images/1.jpg")
        assert paths == [""] and re.fullmatch(
            "the photos listed in images may be in .*a/images or .*: move or rename one", line
        )

    @pytest.mark.parametrize("name", ["images/1.jpg", "/home/me/pictures/1.jpg", "../1.jpg"])
    def test_photos_beside_the_poses(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "1.jpg")
        assert found(tmp_path, name)[0] == ["1.jpg"]

    @pytest.mark.parametrize("name", ["1.jpg", "/home/me/pictures/1.jpg"])
    def test_photos_in_their_usual_folder(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "images/1.jpg")
        assert found(tmp_path, name)[0] == ["images/1.jpg"]

    def test_names_without_a_folder_lie_anywhere(self, tmp_path: Path) -> None:
        lay(tmp_path, "my photos/1.jpg", "masks/1.jpg")
        assert found(tmp_path, "1.jpg", prefixes=("images", ""))[0] == ["my photos/1.jpg"]

    @pytest.mark.parametrize("name", ["test/1.png", "./test/1", "/home/me/lego/test/1.png", r"C:\lego\test\1.png"])
    def test_photos_of_another_split_are_not_taken(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "train/1.png")
        assert found(tmp_path, name) == ([""], "")

    def test_what_was_taken_away_is_not_looked_for(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "images_2/1.jpg", "images_2/2.jpg", "all/images/2.jpg", "2.jpg")
        assert found(tmp_path, "images/1.jpg", "images/2.jpg") == (["images/1.jpg", ""], "")

    def test_files_outside_that_are_there(self, tmp_path: Path) -> None:
        lay(tmp_path, "elsewhere/1.jpg", "data/x")
        outside = str(tmp_path / "elsewhere/1.jpg")
        assert found(tmp_path / "data", "../elsewhere/1.jpg", outside) == (["../elsewhere/1.jpg"] * 2, "")

    def test_missing_ones_are_named_as_listed(self, tmp_path: Path) -> None:
        assert FileResolver(tmp_path, ("images", "")).find(["a/1.jpg"], PHOTOS) == [tmp_path / "images/a/1.jpg"]

    def test_what_count_from_images_or_from_the_data_set(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "images/2.jpg", "2.jpg", "3.jpg")
        names = "1.jpg", "2.jpg", "3.jpg"
        assert found(tmp_path, *names, prefixes=("images", "")) == (["images/1.jpg", "images/2.jpg", "3.jpg"], "")


class TestSpelling:
    def test_of_files_and_folders(self, tmp_path: Path) -> None:
        lay(tmp_path, "Images/Left/IMG_1.JPG")
        paths, line = found(tmp_path, "images/left/img_1.jpg")
        assert paths == ["Images/Left/IMG_1.JPG"] and "1 photo is listed in another spelling" in line

    def test_of_accents(self, tmp_path: Path) -> None:
        """macOS takes letters and accents apart."""
        lay(tmp_path, "images/" + unicodedata.normalize("NFD", "Küche.jpg"))
        assert found(tmp_path, "images/" + unicodedata.normalize("NFC", "Küche.jpg"))[0] != [""]

    def test_the_exact_one_wins(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/a.jpg", "images/A.jpg", "Images/a.jpg")
        assert found(tmp_path, "images/a.jpg") == (["images/a.jpg"], "")

    def test_two_that_are_equally_far(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/aB.jpg", "images/Ab.jpg", "images/c.jpg")
        paths, line = found(tmp_path, "images/ab.jpg", "images/c.jpg")
        assert paths == ["", "images/c.jpg"]
        assert line.startswith("1 photo is ambiguous: images/ab.jpg may be Ab.jpg or aB.jpg in ")


class TestSuffixes:
    def test_another_format(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.png", "images/2.png", "images/3.jpg")
        paths, line = found(tmp_path, "images/1.jpg", "images/2.JPG", "images/3.jpg")
        assert paths == ["images/1.png", "images/2.png", "images/3.jpg"]
        assert "2 photos are listed with another suffix: images/1.jpg is " in line

    @pytest.mark.parametrize("suffix", [".png", ".PNG", ".JPG", ".Jpeg"])
    def test_names_without_one(self, tmp_path: Path, suffix: str) -> None:
        lay(tmp_path, f"train/r_0{suffix}", f"train/r.1{suffix}")
        assert found(tmp_path, "./train/r_0", "train/r.1") == ([f"train/r_0{suffix}", f"train/r.1{suffix}"], "")

    def test_of_several_the_first_in_order(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "images/1.png", "images/1.txt")
        assert found(tmp_path, "images/1") == (["images/1.png"], "")
        assert found(tmp_path, "images/1.jpeg")[0] == ["images/1.png"]

    def test_what_others_are_called_is_not_taken(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.png")
        paths, line = found(tmp_path, "images/1.png", "images/1.jpg")
        assert paths == ["images/1.png", ""]
        assert line.startswith(
            "1 photo is missing, and the files of similar names are listed under other names (images/1.jpg)"
        )

    def test_one_file_is_not_two_photos(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg")
        assert found(tmp_path, "/a/left/1.jpg", "/a/right/1.jpg")[0] == ["", ""]


class TestReducedCopies:
    def test_the_largest(self, tmp_path: Path) -> None:
        lay(tmp_path, "images_4/left/1.jpg", "images_16/left/1.jpg", "images_x/left/1.jpg")
        paths, line = found(tmp_path, "images/left/1.jpg")
        assert paths == ["images_4/left/1.jpg"] and "1 photo is available only at reduced size" in line

    def test_of_what_counts_from_images(self, tmp_path: Path) -> None:
        lay(tmp_path, "images_8/1.JPG", "images_2/1.JPG")
        assert found(tmp_path, "1.jpg", prefixes=("images", ""))[0] == ["images_2/1.JPG"]

    def test_where_the_folder_is_empty(self, tmp_path: Path) -> None:
        lay(tmp_path, "images_2/1.jpg")
        (tmp_path / "images").mkdir()
        assert found(tmp_path, "images/1.jpg")[0] == ["images_2/1.jpg"]

    def test_a_folder_by_name(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/notes.txt", "images_8/1.png", "Images_4/1.png")
        files = FileResolver(tmp_path)
        assert files.folder("images", PHOTOS) == tmp_path / "Images_4"
        assert files.assumptions == [f"images has no photos: those in {tmp_path / 'Images_4'} are used"]
        assert FileResolver(tmp_path).folder("rgb", PHOTOS) is None


def test_several_at_once_cost_a_line_each(tmp_path: Path) -> None:
    lay(tmp_path, "Images/IMG_1.png", "Images/IMG_2.png")
    names = [rf"D:\scene\images\img_{i}.jpg" for i in (1, 2)]
    paths, lines = found(tmp_path, *names)
    assert paths == ["Images/IMG_1.png", "Images/IMG_2.png"]
    assert [line.partition(":")[0] for line in sorted(lines.splitlines())] == [
        "2 photos are listed in another spelling (upper and lower case, or accents)",
        "2 photos are listed with another suffix",
        "2 photos are not at the listed path",
    ]


class TestOtherKinds:
    def test_masks_by_the_same_ladder(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "Masks/1.PNG")
        paths, lines = found(tmp_path, r"C:\scene\masks\1.png", kind=MASKS)
        assert paths == ["Masks/1.PNG"] and "1 mask is not at the listed path" in lines

    def test_a_photo_is_not_its_own_mask(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.png", "2.png")
        files = FileResolver(tmp_path)
        files.find(["images/1.png", "2.png"], PHOTOS)
        for name in ("masks/1.png", "/home/me/images/1.png", "1.png", "masks/2.png"):
            assert not files.find([name], MASKS)[0].exists()

    def test_one_mask_for_all(self, tmp_path: Path) -> None:
        lay(tmp_path, "masks/all.png")
        assert found(tmp_path, "masks/all.png", "masks/all.png", kind=MASKS) == (["masks/all.png"] * 2, "")


class TestWhatIsNoFile:
    @pytest.mark.parametrize("name", ["", "/", "..", ".", "\0", "a" * 300, "\\", "C:", "a/\0/b", "\ud800", "//", "~"])
    def test_senseless_names(self, tmp_path: Path, name: str) -> None:
        lay(tmp_path, "images/1.jpg")
        files = FileResolver(tmp_path)
        files.find([name, name + ".png"], PHOTOS)
        assert files.assumptions == []

    def test_pipes_devices_and_folders(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg", "images/3.jpg/x")
        os.mkfifo(tmp_path / "images/2.jpg")
        paths = FileResolver(tmp_path).find(["images/2.jpg", "/dev/zero", "images/3.jpg", "images/4"], PHOTOS)
        assert not any(path.is_file() for path in paths)


class TestHostileNames:
    def test_more_folders_than_anybody_has(self, tmp_path: Path) -> None:
        lay(tmp_path, *(f"{i}/{i}/x" for i in range(30)), "images/1.jpg")
        files = FileResolver(tmp_path)
        paths = files.find(["images/1.jpg", *(f"/a/{i}/{i}/1.jpg" for i in range(1000))], PHOTOS)
        assert paths[0].is_file() and not any(path.is_file() for path in paths[1:])

    def test_looking_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(file_resolver, "MAX_LOOKUPS", 100)
        lay(tmp_path, *(f"{i}/x" for i in range(30)))
        _, line = found(tmp_path, *(f"/a/{i}/1.jpg" for i in range(50)))
        assert line == "more folders are listed than are searched for; files not found so far stay missing"

    def test_paths_of_a_million_characters(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg")
        names = "a" * 10**6, "a/" * 10**6 + "images/1.jpg", "\\" * 10**6
        paths, lines = found(tmp_path, *names)
        assert paths == ["", "", ""] and lines == ""  # apart: a difference would be shown in full

    def test_deep_paths(self, tmp_path: Path) -> None:
        lay(tmp_path, "images/1.jpg")
        assert found(tmp_path, "/" + "a/" * 1000 + "images/1.jpg")[0] == ["images/1.jpg"]


class TestLinks:
    def test_folders_that_are_links(self, tmp_path: Path) -> None:
        lay(tmp_path, "disk/photos/1.jpg", "data/x")
        (tmp_path / "data/images").symlink_to(tmp_path / "disk/photos")
        assert found(tmp_path / "data", r"scan\images\1.jpg")[0] == ["images/1.jpg"]
        assert [path.name for path, _, _ in folders_below(tmp_path / "data")] == ["data", "images"]

    def test_circles_end(self, tmp_path: Path) -> None:
        lay(tmp_path, "a/b/1.jpg", "0/x")
        (tmp_path / "a/b/up").symlink_to(tmp_path)
        (tmp_path / "0/self").symlink_to(tmp_path / "0")
        (tmp_path / "nowhere").symlink_to(tmp_path / "nowhere")
        (tmp_path / "0/a").symlink_to(tmp_path / "a")
        below = [os.path.relpath(path, tmp_path) for path, _, _ in folders_below(tmp_path)]
        assert below == [".", "0", "a", "a/b"]
        assert found(tmp_path, "missing/1.jpg") == ([""], "")


names = st.text(st.sampled_from("aAäÄ.\\/ 1:"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(there=st.lists(names, max_size=6), listed=st.lists(names, min_size=1, max_size=6))
def test_what_is_there_is_never_guessed(
    tmp_path_factory: pytest.TempPathFactory, there: list[str], listed: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("data")
    for name in there:
        path = folder / name.strip("/")
        if ".." not in path.parts and not any(parent.is_file() for parent in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    files = FileResolver(folder)
    paths = files.find(listed, PHOTOS)
    assert len(paths) == len(listed)
    for name, path in zip(listed, paths, strict=True):
        assert path == folder / name or path.is_file()
        assert path == folder / name or not (folder / name).is_file()
    assert all(line.isprintable() for line in files.assumptions)
