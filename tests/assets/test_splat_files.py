# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat`: a file that other programs understand, whole or not at all, and one line on bad input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import plyfile
import pytest
from export_commands import failing_export, run_export
from full_disk import files_limited_to
from splat_scenes import colorful_splats

from img3d_assets.axes import TO_Y_UP
from img3d_assets.gaussian_frames import rotated
from img3d_assets.splat_editing.selection import select
from img3d_assets.splat_files import FORMATS, read_splats, write_splats
from img3d_base.errors import InputError

WRITTEN = [".ply", *FORMATS]


def test_columns_are_those_of_the_3dgs_authors(tmp_path: Path) -> None:
    write_splats(colorful_splats(10), tmp_path / "scene.ply", "z")
    names = [prop.name for prop in plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"].properties]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45))),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]


def test_a_ply_says_which_axis_is_up(tmp_path: Path) -> None:
    for up, read in (("z", "z"), ("-y", "-y"), (None, "-y")):
        write_splats(colorful_splats(5), tmp_path / "new" / f"{up}.ply", up)
        assert read_splats(tmp_path / "new" / f"{up}.ply")[1] == read


def test_a_file_becomes_another_with_less_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    splats = colorful_splats(500)
    write_splats(splats, tmp_path / "a.ply", "z")
    output = run_export(
        *("splat", "--input", tmp_path / "a.ply", "--output", tmp_path / "b.glb", "--sh-degree", 1),
        *("--crop-min", "-9", "-9", "0", "--crop-max", "9", "9", "9", "--min-opacity", "0.5", "--max-splats", 40),
        monkeypatch=monkeypatch,
        capsys=capsys,
    )
    assert "40 Gaussians" in output
    back, _ = read_splats(tmp_path / "b.glb")
    assert back.sh_degree == 1
    assert (rotated(back, TO_Y_UP["z"].T @ TO_Y_UP["-y"]).means[:, 2] >= -1e-6).all()
    assert back.alphas().min() >= 0.5 - 1e-6
    left = splats[(splats.means[:, 2] >= 0) & (splats.alphas() >= 0.5)].importance()
    assert np.sort(back.importance()) == pytest.approx(np.sort(left)[-40:], rel=1e-4)


def test_what_passes_is_left_as_it_is() -> None:
    splats = colorful_splats(20)
    same = select(splats, 3, (-9, -9, -9), (9, 9, 9), 0.0, 20)
    assert same.means is splats.means


def test_a_splat_file_may_be_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_splats(colorful_splats(100), tmp_path / "a.ply", "z")
    output = run_export(
        "splat", "--input", tmp_path / "a.ply", "--output", tmp_path / "b.ply", monkeypatch=monkeypatch, capsys=capsys
    )
    assert "100 Gaussians" in output
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--input", "a.ply", "--output", "a.ply"), "already exists: choose another name, or give --force"),
            (
                ("--input", "a.ply", "--output", "b.xyz"),
                "has to end in one of .ply, .compressed.ply, .splat, .spz, .sog,",
            ),
            (
                ("--input", "a.ply", "--output", "b.ksplat"),
                "Cannot write splats to b.ksplat: the file name has to end in one of .ply",
            ),
            (("--input", "a.xyz", "--output", "b.ply"), "a.xyz cannot be read: No such file"),
            (("--input", "a.ply", "--output", "b.ply", "--sh-degree", "4"), "--sh-degree is 4: it must be 0 to 3"),
            (("--input", "a.ply", "--output", "b.ply", "--min-opacity", "2"), "it must be between 0 and 1"),
            (("--input", "a.ply", "--output", "b.ply", "--max-splats", "0"), "it must be at least 1"),
            (
                ("--input", "a.ply", "--output", "b.ply", "--crop-min", "5", "5", "5"),
                "None of the 10 Gaussians is",
            ),
            (("--input", "a.compressed.ply", "--output", "b.ply"), "cannot be read"),
            (("--input", "a.ply", "--output", "b.ply", "--original-frame"), "--original-frame needs --load-config"),
            (("--output", "b.ply"), "Give either --load-config"),
            (("--input", "none.ply", "--output", "b.ply"), "none.ply cannot be read: No such file"),
            (("--input", "a.ply", "--output", "a.ply/b.ply"), "cannot be written"),
        ],
    )
    def test_costs_one_line(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        options: tuple[str, ...],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_splats(colorful_splats(10), Path("a.ply"), "z")
        before = Path("a.ply").read_bytes()
        line = failing_export("splat", *options, monkeypatch=monkeypatch, capsys=capsys)
        assert any(part in line for part in message.split("|"))
        assert os.listdir(tmp_path) == ["a.ply"] and Path("a.ply").read_bytes() == before

    @pytest.mark.parametrize("ending", WRITTEN)
    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"a{ending}"
        write_splats(colorful_splats(10), path, "z")
        before = path.read_bytes()
        with files_limited_to(2000), pytest.raises(InputError, match="cannot be written: File too large"):
            write_splats(colorful_splats(500), path, "z")
        assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == before

    @pytest.mark.parametrize("ending", WRITTEN)
    def test_nothing_to_write_leaves_no_file(self, tmp_path: Path, ending: str) -> None:
        with pytest.raises(InputError, match="no Gaussians to write"):
            write_splats(colorful_splats(0), tmp_path / f"a{ending}", "z")
        assert os.listdir(tmp_path) == []
