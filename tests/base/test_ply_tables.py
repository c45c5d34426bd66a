# SPDX-License-Identifier: Apache-2.0
"""PLY files of every spelling give the same numbers, and broken ones cost one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from img3d_base.errors import InputError
from img3d_base.ply_tables import read_ply

TEXT = b"ply\nformat ascii 1.0\n"
VERTICES = np.array(
    [(1.5, -2.25, 7, 3_000_000_000), (0.1, 1e6, 255, 0)], [("x", "f4"), ("y", "f8"), ("red", "u1"), ("packed", "u4")]
)


def written(text: bool = False, byte_order: str = "<", vertices: np.ndarray = VERTICES) -> bytes:
    """By plyfile, with another element before and one with lists behind."""
    extra = np.array([(1, 2), (3, 4)], [("a", "i2"), ("b", "f8")])
    faces = np.array([([0, 1, 1],)], [("vertex_indices", "O")])
    elements = [
        plyfile.PlyElement.describe(extra, "extra"),
        plyfile.PlyElement.describe(vertices, "vertex"),
        plyfile.PlyElement.describe(faces, "face", val_types={"vertex_indices": "i4"}),
    ]
    buffer = io.BytesIO()
    plyfile.PlyData(elements, text=text, byte_order=byte_order, comments=["by plyfile"]).write(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("text", "byte_order"), [(False, "<"), (False, ">"), (True, "=")])
@pytest.mark.parametrize("num", [0, 1, 2])
def test_numbers_are_those_of_plyfile(tmp_path: Path, text: bool, byte_order: str, num: int) -> None:
    (tmp_path / "a.ply").write_bytes(written(text, byte_order, VERTICES[:num]))
    ply = read_ply(tmp_path / "a.ply", ["vertex", "none"])
    assert ply.comments == ["by plyfile"] and set(ply.tables) == {"vertex"}
    both = read_ply(tmp_path / "a.ply", ["vertex", "extra"]).tables
    assert both["extra"]["b"].tolist() == [2, 4] and np.array_equal(both["vertex"], ply.tables["vertex"])
    for name in VERTICES.dtype.names or ():
        np.testing.assert_array_equal(ply.tables["vertex"][name], VERTICES[name][:num])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("comment", ["Höhe über Grund".encode(), "Höhe".encode("latin1"), "点云".encode(), b""])
def test_comments_may_be_in_any_language(tmp_path: Path, newline: bytes, comment: bytes) -> None:
    header = written().partition(b"end_header\n")
    lines = header[0].replace(b"comment by plyfile", b"comment " + comment).replace(b"\n", newline)
    (tmp_path / "a.ply").write_bytes(lines + b"end_header" + newline + header[2])
    ply = read_ply(tmp_path / "a.ply", ["vertex"])
    np.testing.assert_array_equal(ply.tables["vertex"]["y"], VERTICES["y"])
    assert ply.comments == [comment.decode("utf-8", "replace")]


def test_infinities_and_extra_spaces_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text(
        "ply \nformat ascii 1.0\nelement  vertex 2\nproperty float x\nproperty double y\nend_header \n"
        " inf  -1e3\n\nnan 2"
    )
    table = read_ply(tmp_path / "a.ply", ["vertex"]).tables["vertex"]
    np.testing.assert_array_equal(table["x"], np.float32([np.inf, np.nan]))
    np.testing.assert_array_equal(table["y"], [-1000, 2])


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "does not begin with"),
        (b"plywood\n", "does not begin with"),
        (TEXT + b"", "without an end"),
        (b"ply\n" + b"comment x\n" * 200_000 + b"end_header\n", "without an end"),
        (b"ply\nend_header\n", "without a format line"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "invalid line"),
        (TEXT + b"property float x\nend_header\n", "invalid line: 'property float x'"),
        (TEXT + b"element vertex many\nend_header\n", "invalid line"),
        (TEXT + b"element vertex 1\nproperty float128 x\nend_header\n", "invalid line"),
        (TEXT + b"element vertex 1\nproperty int x\nproperty int x\nend_header\n1 1\n", "more than once"),
        (TEXT + b"element vertex 1\nproperty list uchar int x\nend_header\n1 1\n", "has lists"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement face 1\nproperty list uchar int x\n"
            b"element vertex 1\nproperty uchar x\nend_header\n\0\0",
            "has lists",
        ),
        (TEXT + b"element vertex 2\nproperty int x\nend_header\n1\n", "cut off or damaged"),
        (TEXT + b"element vertex 2\nproperty int x\nend_header\n\n\n\n\n", "cut off or damaged"),
        (TEXT + b"element vertex 2\nproperty int x\nend_header\n1\n2 3\n", "text where|numbers"),
        (TEXT + b"element vertex 2\nproperty int x\nend_header\n1\nred\n", "text where numbers"),
        *(
            (b"ply\nformat %s 1.0\nelement %s %s\n%s\nelement vertex 1\n%s\nend_header\n1\n" % parts, "cut off")
            for order in (b"ascii", b"binary_little_endian", b"binary_big_endian")
            for name in (b"vertex", b"extra")
            for count in (b"1000000000000", b"-1", b"9" * 30)
            for parts in [(order, name, count, b"property float y", b"property char x")]
        ),
        (TEXT + b"element a 1000000000000\nelement vertex 1\nproperty char x\nend_header\n1\n", "cut off"),
    ],
)
def test_what_lies_or_is_cut_off_is_refused(tmp_path: Path, contents: bytes, reason: str) -> None:
    (tmp_path / "a.ply").write_bytes(contents)
    with pytest.raises(InputError, match=reason) as error:
        read_ply(tmp_path / "a.ply", ["vertex"])
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=st.booleans())
def test_damaged_files_cost_one_line(data: st.DataObject, text: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    contents = bytearray(written(text))
    if data.draw(st.booleans()):
        contents = contents[: data.draw(st.integers(0, len(contents) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "bad.ply"
    path.write_bytes(contents)
    try:
        tables = read_ply(path, ["vertex", "extra"]).tables
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert sum(table.nbytes for table in tables.values()) < 10_000
