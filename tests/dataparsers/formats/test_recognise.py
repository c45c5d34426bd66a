# SPDX-License-Identifier: Apache-2.0
"""Which format a folder is taken for, also where it brings several, and when it has no poses at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from known_scene import KnownCamera, cameras_of, write_photo
from test_arkit_frames import write_scan
from test_colmap import write_data_set, write_model
from test_llff import write_llff
from test_polycam import write_polycam
from test_record3d import write_record3d
from test_strecha import write_strecha

from img3d_base.errors import InputError
from img3d_dataparsers.formats.recognise import posed_photos_in
from img3d_dataparsers.usable_photos import usable_photos

CAMERAS = cameras_of(np.random.default_rng(1), 4)


def write_transforms(folder: Path, cameras: list[KnownCamera], name: str = "transforms.json") -> None:
    frames = []
    for i, camera in enumerate(cameras):
        write_photo(folder / "images" / f"{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": camera.opengl_to_world.tolist()})
    (folder / name).write_text(json.dumps({"fl_x": cameras[0].fx, "frames": frames}))


WRITERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "transforms.json": (lambda folder: write_transforms(folder, CAMERAS), "transforms.json"),
    "NeRF-synthetic": (
        lambda folder: [write_transforms(folder, CAMERAS, f"transforms_{name}.json") for name in ("train", "test")],
        "transforms_train.json",
    ),
    "COLMAP": (lambda folder: write_data_set(folder, CAMERAS, "sparse/0", "images"), "sparse/0"),
    "COLMAP in the folder itself": (lambda folder: write_data_set(folder, CAMERAS, ".", "."), "."),
    "LLFF": (lambda folder: write_llff(folder, CAMERAS), "poses_bounds.npy"),
    "Polycam": (lambda folder: write_polycam(folder, CAMERAS), "keyframes/corrected_cameras"),
    "Record3D": (lambda folder: write_record3d(folder, CAMERAS), "metadata.json"),
    "3D Scanner App": (lambda folder: write_scan(folder, CAMERAS), "."),
    "Strecha": (lambda folder: write_strecha(folder, CAMERAS, "urd", "urd"), "urd"),
}
"""In order of precedence: what writes the format, and where its poses come from."""


@pytest.mark.parametrize("name", WRITERS)
class TestEachFormat:
    def test_is_recognised_and_usable(self, tmp_path: Path, name: str) -> None:
        write, source = WRITERS[name]
        write(tmp_path)
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None
        assert (posed.source, posed.folder) == (tmp_path / source, tmp_path)
        assert len(usable_photos(posed, 3)) == 4

    def test_what_img3d_keeps_in_the_folder_does_not_matter(self, tmp_path: Path, name: str) -> None:
        write, source = WRITERS[name]
        write(tmp_path)
        for other, _ in WRITERS.values():
            (tmp_path / ".img3d").mkdir(exist_ok=True)
            other(tmp_path / ".img3d")
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and posed.source == tmp_path / source

    def test_inside_img3ds_own_folder_nothing_is_recognised(self, tmp_path: Path, name: str) -> None:
        (tmp_path / ".img3d").mkdir()
        WRITERS[name][0](tmp_path / ".img3d")
        assert posed_photos_in(tmp_path / ".img3d", "train") is None
        assert posed_photos_in(tmp_path, "train") is None


def respell(folder: Path, names: dict[str, str]) -> None:
    for name, other in names.items():
        (folder / name).rename(folder / other)


class TestOtherSpellings:
    """Folders and files of fixed names, as they come from disks where letter case does not count."""

    @pytest.mark.parametrize(
        ("name", "names", "said"),
        [
            (
                "transforms.json",
                {"transforms.json": "Transforms.JSON"},
                ["Transforms.JSON is taken for transforms.json"],
            ),
            (
                "NeRF-synthetic",
                {"transforms_train.json": "Transforms_Train.json"},
                ["Transforms_Train.json is taken for transforms_train.json"],
            ),
            ("COLMAP", {"sparse": "Sparse"}, ["Sparse is taken for sparse"]),
            ("LLFF", {"poses_bounds.npy": "POSES_BOUNDS.NPY"}, ["POSES_BOUNDS.NPY is taken for poses_bounds.npy"]),
            (
                "Polycam",
                {"keyframes/corrected_cameras": "keyframes/Corrected_Cameras", "keyframes": "KeyFrames"},
                ["KeyFrames is taken for keyframes", "Corrected_Cameras is taken for corrected_cameras"],
            ),
            (
                "Record3D",
                {"metadata.json": "Metadata.json", "rgb": "RGB"},
                ["Metadata.json is taken for metadata.json", "RGB is taken for rgb"],
            ),
            (
                "3D Scanner App",
                {f"frame_0000{i}.json": f"Frame_0000{i}.JSON" for i in (0, 3, 6, 9)},
                ["4 camera files are listed in another spelling"],
            ),
            ("Strecha", {"urd/0000.jpg.camera": "urd/0000.jpg.CAMERA"}, []),
        ],
    )
    def test_are_read_with_a_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, names: dict[str, str], said: list[str]
    ) -> None:
        WRITERS[name][0](tmp_path)
        respell(tmp_path, names)
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and len(usable_photos(posed, 3)) == 4
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
        assert len(lines) == len(said)
        assert all(words in line for words, line in zip(said, lines, strict=True))

    def test_the_exact_one_wins(self, tmp_path: Path) -> None:
        write_polycam(tmp_path, CAMERAS)
        shutil.copytree(tmp_path / "keyframes", tmp_path / "Keyframes")
        shutil.rmtree(tmp_path / "Keyframes/corrected_images")
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and posed.source == tmp_path / "keyframes/corrected_cameras"
        assert posed.assumptions == []

    def test_of_two_others_none_is_taken(self, tmp_path: Path) -> None:
        write_record3d(tmp_path, CAMERAS)
        shutil.copytree(tmp_path / "rgb", tmp_path / "Rgb")
        respell(tmp_path, {"rgb": "RGB"})
        assert posed_photos_in(tmp_path, "train") is None


class TestPrecedence:
    @pytest.mark.parametrize(("first", "second"), combinations(WRITERS, 2))
    def test_where_two_formats_meet_the_earlier_wins(self, tmp_path: Path, first: str, second: str) -> None:
        WRITERS[second][0](tmp_path)
        WRITERS[first][0](tmp_path)
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and posed.source == tmp_path / WRITERS[first][1]

    def test_llffs_reduced_photos_alone_are_none_of_colmaps(self, tmp_path: Path) -> None:
        """As in a copy of nerf_llff_data without its large photos: COLMAP's names are theirs."""
        write_model(tmp_path / "sparse/0", [f"IMG_{i}.JPG" for i in range(4)], CAMERAS)
        write_llff(tmp_path, CAMERAS, "images_8", reduction=8)
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and posed.source == tmp_path / "poses_bounds.npy"

    def test_each_split_of_nerf_synthetic(self, tmp_path: Path) -> None:
        WRITERS["NeRF-synthetic"][0](tmp_path)
        posed = posed_photos_in(tmp_path, "test")
        assert posed is not None and posed.source == tmp_path / "transforms_test.json"


class TestNoPoses:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert posed_photos_in(tmp_path, "train") is None

    def test_photos_among_other_files(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "frame_00001.png", "0.jpg", "images/a.jpg", "rgb/0.jpg", "keyframes/images/1.jpg"):
            write_photo(tmp_path / name)
        for name in ("a.json", "info.json", "images/a.json", "notes.txt", "cameras.txt", "lens.camera", "poses.npy"):
            (tmp_path / name).write_text("x")
        for name in ("masks", "sparse", "colmap", "gt"):
            (tmp_path / name).mkdir()
        assert posed_photos_in(tmp_path, "train") is None

    def test_metadata_of_another_program(self, tmp_path: Path) -> None:
        """Nerfies' data sets have the same names."""
        write_photo(tmp_path / "rgb" / "0.jpg")
        (tmp_path / "metadata.json").write_text('{"000001": {"warp_id": 0}}')
        assert posed_photos_in(tmp_path, "train") is None

    @pytest.mark.parametrize("stem", ["0001", "frame_0001", "frame_a"])
    def test_labels_beside_photos(self, tmp_path: Path, stem: str) -> None:
        write_photo(tmp_path / f"{stem}.jpg")
        (tmp_path / f"{stem}.json").write_text('{"shapes": []}')
        assert posed_photos_in(tmp_path, "train") is None


class TestBadInput:
    def test_rotations_of_zeros(self, tmp_path: Path) -> None:
        write_strecha(tmp_path, CAMERAS)
        for path in (tmp_path / "gt_dense_cameras").iterdir():
            lines = path.read_text().splitlines()
            lines[4:7] = ["0 0 0"] * 3
            path.write_text("\n".join(lines))
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None
        with pytest.raises(InputError, match="not a rotation") as caught:
            usable_photos(posed, 3)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("photo", "poses"), [("rgb/0.jpg", "metadata.json"), ("frame_00.jpg", "frame_00.json")])
    def test_damaged_poses_are_not_passed_over(self, tmp_path: Path, photo: str, poses: str) -> None:
        write_photo(tmp_path / photo)
        (tmp_path / poses).write_text('{"po')
        with pytest.raises(InputError, match="is not valid JSON") as caught:
            posed_photos_in(tmp_path, "train")
        assert poses in str(caught.value)

    def test_a_folder_that_may_not_be_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbidden(path: Path) -> list[Path]:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "iterdir", forbidden)
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            posed_photos_in(tmp_path, "train")

    def test_a_folder_that_vanished(self, tmp_path: Path) -> None:
        write_strecha(tmp_path, CAMERAS)
        shutil.rmtree(tmp_path)
        with pytest.raises(InputError, match="No such file"):
            posed_photos_in(tmp_path, "train")


class TestUnpackedArchives:
    @pytest.mark.parametrize("name", ["transforms.json", "NeRF-synthetic", "COLMAP", "LLFF"])
    def test_the_only_folder_in_a_folder_is_read(self, tmp_path: Path, name: str) -> None:
        WRITERS[name][0](tmp_path / "scene")
        (tmp_path / "__MACOSX").mkdir()
        (tmp_path / ".DS_Store").write_bytes(b"x")
        posed = posed_photos_in(tmp_path, "train")
        assert posed is not None and len(usable_photos(posed, 3)) == 4
        assert posed.folder == tmp_path / "scene"
        assert f"the data set is in {tmp_path / 'scene'}" in posed.assumptions

    def test_one_of_several_is_not(self, tmp_path: Path) -> None:
        for scene in ("one", "two"):
            write_transforms(tmp_path / scene, CAMERAS)
        assert posed_photos_in(tmp_path, "train") is None

    def test_nor_one_beside_files(self, tmp_path: Path) -> None:
        write_transforms(tmp_path / "scene", CAMERAS)
        write_photo(tmp_path / "1.jpg")
        assert posed_photos_in(tmp_path, "train") is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_json_in_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    write_transforms(tmp_path, CAMERAS)
    path = tmp_path / "transforms.json"
    path.write_bytes(path.read_text().encode(encoding))
    posed = posed_photos_in(tmp_path, "train")
    assert posed is not None and len(usable_photos(posed, 3)) == 4
