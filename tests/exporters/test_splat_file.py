# SPDX-License-Identifier: Apache-2.0
"""`img3d-export splat`: a PLY that other readers understand, whole or not at all, and one line on bad input."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import plyfile
import pytest
from export_commands import failing_export, run_export
from splat_scenes import colorful_splats

from img3d_dataparsers.errors import InputError
from img3d_exporters.splat_file import write_splats
from img3d_exporters.splats import read_ply


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("up", ["z", None])
def test_numbers_come_back(tmp_path: Path, sh_degree: int, up) -> None:
    splats = colorful_splats(100, sh_degree)
    write_splats(splats, tmp_path / "new" / "scene.ply", up)
    again, axis = read_ply(tmp_path / "new" / "scene.ply")
    assert axis == (up or "-y")
    for field in fields(splats):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(splats, field.name))


def test_columns_are_those_of_the_3dgs_authors(tmp_path: Path) -> None:
    write_splats(colorful_splats(10), tmp_path / "scene.ply", "z")
    names = [prop.name for prop in plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"].properties]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(45))),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]


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
            (("--input", "a.ply", "--output", "a.ply"), "is there already: choose another name, or give --force"),
            (("--input", "a.ply", "--output", "b.xyz"), "unknown ending: img3d-export splat writes .ply"),
            (("--input", "a.ply", "--output", "b.ply", "--original-frame"), "--original-frame needs --load-config"),
            (("--output", "b.ply"), "Give either --load-config"),
            (("--input", "none.ply", "--output", "b.ply"), "cannot be read|No such file|not a PLY"),
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

    def test_a_full_disk_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_splats(colorful_splats(10), tmp_path / "a.ply", "z")
        before = (tmp_path / "a.ply").read_bytes()

        def full(ply: plyfile.PlyData, path: Path) -> None:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(plyfile.PlyData, "write", full)
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            write_splats(colorful_splats(20), tmp_path / "a.ply", "z")
        assert os.listdir(tmp_path) == ["a.ply"] and (tmp_path / "a.ply").read_bytes() == before
