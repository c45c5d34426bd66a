# SPDX-License-Identifier: Apache-2.0
"""The table of how a run went: as it was written, or not there; and what a continued run takes from it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from full_disk import files_limited_to
from hypothesis import given
from hypothesis import strategies as st

from img3d_methods.training.curve import CURVE_FILE, CurvePoint, read_curve, write_curve

numbers = st.floats(0, 1e6).map(lambda value: float(f"{value:.6g}"))
points = st.lists(st.builds(CurvePoint, st.integers(0, 10**6), numbers, numbers, numbers, st.integers(0, 10**7)))


@given(points=points)
def test_a_table_is_read_as_it_was_written(points: list[CurvePoint], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / CURVE_FILE
    write_curve(points, path)
    assert read_curve(path) == points


def test_a_spreadsheet_knows_the_columns(tmp_path: Path) -> None:
    write_curve([CurvePoint(50, 1.25, 0.5, 20.0, 1000)], tmp_path / CURVE_FILE)
    with (tmp_path / CURVE_FILE).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"step": "50", "seconds": "1.25", "loss": "0.5", "psnr": "20", "gaussians": "1000"}


def test_a_run_without_a_table_has_no_points(tmp_path: Path) -> None:
    assert read_curve(tmp_path / CURVE_FILE) == []


@pytest.mark.parametrize(
    "contents", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"step,seconds,loss,psnr,gaussians\n50,1.0,0.5\n", b"\0"]
)
def test_a_damaged_table_is_named(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / CURVE_FILE).write_bytes(contents)
    with pytest.raises(ValueError, match=CURVE_FILE) as error:
        read_curve(tmp_path / CURVE_FILE)
    assert "\n" not in str(error.value)


def test_a_full_disk_leaves_the_older_table(tmp_path: Path) -> None:
    older = [CurvePoint(0, 0.0, 1.0, 5.0, 10)]
    write_curve(older, tmp_path / CURVE_FILE)
    with files_limited_to(50), pytest.raises(OSError):
        write_curve(older * 100, tmp_path / CURVE_FILE)
    assert read_curve(tmp_path / CURVE_FILE) == older
    assert os.listdir(tmp_path) == [CURVE_FILE]
