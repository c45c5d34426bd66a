# SPDX-License-Identifier: Apache-2.0
"""Poses that somebody else's folder of photos brings: used if they are of its photos and whole, else solved for."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_poses import COUNT, FILES, write_kept

from img3d_base.atomic_files import is_own, mark_as_own
from img3d_base.foreign_files import read_json
from img3d_dataparsers.sfm.matching import _read_features
from img3d_dataparsers.sfm.photo_set import PhotoSet
from img3d_dataparsers.sfm.solve import posed_photos, solve
from img3d_dataparsers.sfm.solved_model import BYTES_PER_PHOTO


class SolvedAnewError(Exception):
    """What solving is replaced by."""


@pytest.fixture(autouse=True)
def no_solving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def features_of(photo_set: PhotoSet, folder: Path) -> None:
        assert is_own(folder.parent) and list(folder.parent.iterdir()) == [folder.parent / "made_here"]
        raise SolvedAnewError

    monkeypatch.setattr("img3d_dataparsers.sfm.solve.features_of", features_of)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def warnings_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]


def test_a_whole_one_is_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kept(folder)
    posed = posed_photos(solve(folder, None))
    assert len(posed.frames) == COUNT and warnings_of(capsys) == []


def changed_report(**values: Any) -> Callable[[Path], None]:
    def change(kept: Path) -> None:
        path = kept / "report.json"
        path.write_text(json.dumps({**read_json(path), **values}))

    return change


def patched(name: str, at: int, layout: str, value: float) -> Callable[[Path], None]:
    def change(kept: Path) -> None:
        contents = bytearray((kept / name).read_bytes())
        struct.pack_into(layout, contents, at, value)
        (kept / name).write_bytes(contents)

    return change


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(kept: Path) -> None:
        (kept / name).unlink()
        make(kept / name)

    return change


def shuffled_points(kept: Path) -> None:
    """All of them behind every camera."""
    contents = bytearray((kept / "points3D.bin").read_bytes())
    for i in range(20):
        struct.pack_into("<3d", contents, 8 + 51 * i + 8, 1e8, 1e8, 1e8)
    (kept / "points3D.bin").write_bytes(contents)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(COUNT * BYTES_PER_PHOTO + 1)


@pytest.mark.parametrize(
    "change",
    [
        *(patched(name, 0, "<Q", 2**40) for name in FILES[:3]),
        *(patched("cameras.bin", 8 + 24, "<d", value) for value in (0.0, -1.0, float("nan"), 1e300)),
        patched("cameras.bin", 8 + 4, "<i", 2),
        patched("cameras.bin", 8 + 8, "<Q", 127),
        *(patched("images.bin", 8 + 4, "<d", value) for value in (float("nan"), 1e5)),
        *(patched("images.bin", 8 + 36, "<d", value) for value in (float("inf"), 1e20)),
        patched("images.bin", 8 + 60, "<i", 9),
        patched("images.bin", 8 + 64, "<c", b"x"),  # pyright: ignore[reportArgumentType]
        patched("points3D.bin", 8 + 8, "<d", float("nan")),
        shuffled_points,
        *(changed_report(registered=value) for value in (4, 10**30, "5", None, -5, [5])),
        *(changed_report(unregistered=value) for value in ({"images/9.png": "x"}, ["images/0.png"], 3)),
        *(changed_report(weakest=value) for value in (["\x1b[31m"], [[]], "images/0.png")),
        *(changed_report(viewpoints=value) for value in ({}, {"gap": 1}, "none", 3)),
        changed_report(points=21),
        changed_report(parallax=float("inf")),
        changed_report(mapper="\n"),
        changed_report(more=1),
        *(
            replaced("report.json", lambda path, text=text: path.write_text(text))
            for text in ("", "[]", "3", "[" * 9999)
        ),
        *(replaced(name, os.mkfifo) for name in FILES),
        *(replaced(name, Path.mkdir) for name in FILES),
        *(replaced(name, lambda path: path.symlink_to("/dev/zero")) for name in FILES),
        *(replaced(name, large) for name in FILES[:3]),
        *(replaced(name, lambda path: None) for name in FILES[:3]),
    ],
)
def test_what_is_damaged_or_lies_is_solved_anew(
    folder: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    change(write_kept(folder))
    with pytest.raises(SolvedAnewError):
        solve(folder, None)
    [line] = warnings_of(capsys)
    assert line.endswith("; the poses are solved for again") and line.isprintable()


@pytest.mark.parametrize("how", ["a folder", "marked elsewhere", "a link", "a file"])
def test_work_that_another_computer_began_is_not_gone_on_with(
    folder: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    kept = write_kept(folder)
    work, elsewhere = kept.with_suffix(".work"), folder.parent / "elsewhere"
    kept.rename(elsewhere)
    (elsewhere / "mapping.log").symlink_to(folder.parent / "precious")
    if how == "marked elsewhere":
        mark_as_own(elsewhere)
    if how in ("a folder", "marked elsewhere"):
        work.mkdir()
        for path in elsewhere.iterdir():
            path.rename(work / path.name)
    elif how == "a link":
        work.symlink_to(elsewhere)
    else:
        work.write_text("x")
    with pytest.raises(SolvedAnewError):
        solve(folder, None)
    [line] = warnings_of(capsys)
    assert "is from another computer, or was copied; solving for poses starts from the beginning" in line
    assert elsewhere.is_dir()
    with pytest.raises(SolvedAnewError):  # and from then on it is
        solve(folder, None)
    assert "Resuming the solving" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("xy", "descriptors", "rgb"),
    [
        (np.zeros((3, 2)), np.zeros((4, 128), np.float16), np.zeros((3, 3), np.uint8)),
        (np.zeros((3, 2)), np.zeros((3, 128)), np.zeros((3, 3), np.uint8)),
        (np.zeros(()), np.zeros((3, 128), np.float16), np.zeros((3, 3), np.uint8)),
    ],
)
def test_features_of_other_shapes_are_found_anew(tmp_path: Path, xy: Any, descriptors: Any, rgb: Any) -> None:
    np.savez(tmp_path / "a.npz", xy=xy, descriptors=descriptors, rgb=rgb)
    assert _read_features(tmp_path / "a.npz") is None
    np.savez(
        tmp_path / "a.npz",
        xy=np.zeros((3, 2)),
        descriptors=np.zeros((3, 128), np.float16),
        rgb=np.zeros((3, 3), np.uint8),
    )
    assert _read_features(tmp_path / "a.npz") is not None
