# SPDX-License-Identifier: Apache-2.0
"""Depth maps as files: every kind that is read, and those that are not, in one line."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from exr_files import exr_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from img3d_base.errors import InputError
from img3d_dataparsers.depth.exr import read_exr
from img3d_dataparsers.depth.maps import read_depth

DEPTH = np.array([[1.0, 2.5, 3.0], [0.25, 5.0, 8.0]])
OTHER = np.full((2, 3), 77.0)


def save(path: Path, dtype: str) -> Path:
    values = DEPTH.astype(dtype) if dtype != "uint16" else (1000 * DEPTH).astype(dtype)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        assert cv2.imwrite(str(path), values)
    return path


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("d.png", "uint16"), ("d.tif", "uint16"), ("d.tiff", "float32"), ("d.pfm", "float32"), ("d.npy", "float64")],
)
def test_kinds_of_files(tmp_path: Path, name: str, dtype: str) -> None:
    depth = read_depth(save(tmp_path / name, dtype))
    assert depth.has_integers == (dtype == "uint16")
    np.testing.assert_array_equal(depth.values, 1000 * DEPTH if depth.has_integers else DEPTH)


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 2, 3)])
def test_an_axis_of_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "d.npy", DEPTH.reshape(shape))
    np.testing.assert_array_equal(read_depth(tmp_path / "d.npy").values, DEPTH)


def test_unknown_depths_are_zero(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.array([[1000.0, np.nan, 65504.0], [np.inf, -5.0, 1e10]]))
    expected = [[1000.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(read_depth(tmp_path / "depth.npy").values, expected)


class TestExr:
    @pytest.mark.parametrize("kind", [np.float16, np.float32])
    @pytest.mark.parametrize(
        ("name", "others"),
        [
            *(("Y", ()), ("Z", ()), ("V", ()), ("R", ("G", "B", "A")), ("Z", ("R", "G", "B", "A", "Y"))),
            *(("ViewLayer.Depth.Z", ("ViewLayer.Combined.R", "ViewLayer.Combined.G", "ViewLayer.Combined.B")),),
            *(("Depth.V", ("Depth.A", "R")), ("depth", ("normal.X",)), ("something", ()), ("distance.Y", ("Y",))),
        ],
    )
    def test_the_channel_of_the_depth(self, tmp_path: Path, name: str, others: tuple[str, ...], kind: type) -> None:
        channels = {name: DEPTH.astype(kind), **{other: OTHER.astype(kind) for other in others}}
        (tmp_path / "d.exr").write_bytes(exr_bytes(channels))
        np.testing.assert_array_equal(read_exr(tmp_path / "d.exr"), DEPTH)

    @pytest.mark.parametrize(
        ("contents", "message"),
        [
            (b"", "does not begin with OpenEXR's magic number"),
            (b"PNG", "does not begin with OpenEXR's magic number"),
            (exr_bytes({"Y": DEPTH.astype(np.float32)})[:150], "cannot be read as OpenEXR"),
            (exr_bytes({"Y": DEPTH.astype(np.float32)})[:-60], ""),
            (exr_bytes({"Y": DEPTH.astype(np.float32)}, version=2 | 0x1000), "several parts"),
            (exr_bytes({"Y": DEPTH.astype(np.float32)}, compression=8), "compressed with DWA"),
            (exr_bytes({"normal.X": DEPTH.astype(np.float32), "uv.U": OTHER.astype(np.float32)}), "is a depth"),
        ],
    )
    def test_others_are_one_line(self, tmp_path: Path, contents: bytes, message: str) -> None:
        (tmp_path / "d.exr").write_bytes(contents)
        try:
            values = read_exr(tmp_path / "d.exr")
        except InputError as error:
            assert message in str(error) and "\n" not in str(error)
        else:
            assert message == "" and values.shape == DEPTH.shape  # FFmpeg fills in what is cut off

    @pytest.mark.parametrize(
        ("end", "message"), [(99_999, "its dataWindow is 0, 0 to 99999, 99999"), (5399, "29,160,000 pixels would take")]
    )
    def test_sizes_are_not_believed(self, tmp_path: Path, end: int, message: str) -> None:
        whole = exr_bytes({"Y": DEPTH.astype(np.float32)})
        window = struct.pack("<4i", 0, 0, 2, 1)
        (tmp_path / "d.exr").write_bytes(whole.replace(window, struct.pack("<4i", 0, 0, end, end)))
        with pytest.raises(InputError, match=message):
            read_exr(tmp_path / "d.exr")

    @settings(max_examples=60, deadline=None)
    @given(at=st.integers(0, 500), new=st.binary(min_size=1, max_size=4), cut=st.integers(1, 500))
    def test_damaged_files_are_read_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes, cut: int
    ) -> None:
        contents = bytearray(exr_bytes({"Depth.Z": DEPTH.astype(np.float32), "R": OTHER.astype(np.float32)}))
        contents[at : at + len(new)] = new
        path = tmp_path_factory.getbasetemp() / "damaged.exr"
        path.write_bytes(contents[: max(cut, 300)])
        try:
            assert read_exr(path).ndim == 2
        except InputError as error:
            assert "\n" not in str(error)


def lying_npy(path: Path, shape: str) -> Path:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(40))
    return path


class TestWhatIsNone:
    @pytest.mark.parametrize("shape", ["(1000000000000, 10)", "(100000, 100000)", "(10**30, 3)", "(-3, 10)", "(2,)"])
    def test_arrays_that_lie(self, tmp_path: Path, shape: str) -> None:
        with pytest.raises(InputError) as caught:
            read_depth(lying_npy(tmp_path / "d.npy", shape))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["d.png", "d.npy", "d.exr"])
    def test_what_is_not_there_and_pipes(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError):
            read_depth(tmp_path / name)
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="not a file"):
            read_depth(tmp_path / name)

    @pytest.mark.parametrize("name", ["d.png", "d.npy", "d.exr", "d.tif"])
    def test_another_file_of_that_name(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"PK\x03\x04 no depth at all")
        with pytest.raises(InputError):
            read_depth(tmp_path / name)

    def test_three_numbers_for_each_pixel(self, tmp_path: Path) -> None:
        np.save(tmp_path / "d.npy", np.ones((4, 5, 3)))
        with pytest.raises(InputError, match="is not a depth map: it holds float64 of shape"):
            read_depth(tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("kind", "name"), [(".npy", "d.png"), (".exr", "d.png"), (".png", "d.exr"), (".tiff", "d.npy")]
)
def test_contents_decide_not_the_ending(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"right{kind}"
    if kind == ".exr":
        path.write_bytes(exr_bytes({"Z": DEPTH.astype(np.float32)}))
    else:
        save(path, "float32" if kind != ".png" else "uint16")
    expected = read_depth(path)
    path.rename(tmp_path / name)
    depth = read_depth(tmp_path / name)
    assert depth.has_integers == expected.has_integers
    np.testing.assert_array_equal(depth.values, expected.values)


def test_maps_that_git_lfs_has_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "d.npy").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    with pytest.raises(InputError, match=r"d\.npy is in Git LFS and not fetched"):
        read_depth(tmp_path / "d.npy")
