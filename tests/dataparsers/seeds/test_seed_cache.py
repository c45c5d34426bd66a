# SPDX-License-Identifier: Apache-2.0
"""Seed points that are kept beside photos, and may come from somebody else with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from img3d_dataparsers.posed_photos import SeedPoints
from img3d_dataparsers.seeds.seed_cache import kept_points

XYZ, RGB = np.arange(6.0).reshape(2, 3), np.zeros((2, 3), np.uint8)


def test_they_are_made_once(tmp_path: Path) -> None:
    def fails() -> SeedPoints:
        raise AssertionError("made again")

    kept_points([tmp_path], "key", lambda: (XYZ, RGB))
    np.testing.assert_array_equal(kept_points([tmp_path], "key", fails)[0], XYZ)


@pytest.mark.parametrize(
    ("xyz", "rgb"),
    [
        (np.full((2, 3), np.nan), RGB),
        (XYZ[:1], RGB),
        (XYZ, RGB[:, :2]),
        (XYZ.astype(np.float32), RGB),
        (XYZ, np.uint8(3)),
        (np.array([["a", None, 1]], object), RGB),
    ],
)
def test_what_is_damaged_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], xyz: Any, rgb: np.ndarray
) -> None:
    np.savez(tmp_path / "seed_points-key.npz", xyz=xyz, rgb=rgb)
    np.testing.assert_array_equal(kept_points([tmp_path], "key", lambda: (XYZ, RGB))[0], XYZ)
    assert capsys.readouterr().out.count("the seed points are made again") == 1
    np.testing.assert_array_equal(np.load(tmp_path / "seed_points-key.npz")["xyz"], XYZ)
