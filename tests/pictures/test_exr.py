# SPDX-License-Identifier: Apache-2.0
"""OpenEXR pictures: exact values, sRGB as photos, and what is not read is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from exr_files import exr_file

from img3d_base.errors import InputError
from img3d_pictures.exr import exr_bytes, header_attributes, read_exr
from img3d_pictures.reading import check_photos, read_photo


def some_values(channels: int, dtype: type[np.floating] = np.float32) -> npt.NDArray[np.floating]:
    return (3 * np.random.default_rng(0).random((18, 20, channels))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_values_come_back(channels: int, dtype: type[np.floating]) -> None:
    values = some_values(channels, dtype)
    np.testing.assert_array_equal(read_exr(exr_file(values)), values.astype(np.float32))


REQUIRED = {
    "channels",
    "compression",
    "dataWindow",
    "displayWindow",
    "lineOrder",
    "pixelAspectRatio",
    "screenWindowCenter",
    "screenWindowWidth",
}
"""The attributes without which OpenEXR's own library refuses a file."""


@pytest.mark.parametrize("size", [(1, 1), (18, 20), (33, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_exact_and_complete(channels: int, size: tuple[int, int]) -> None:
    values = (1e3 * np.random.default_rng(0).standard_normal((*size, channels))).astype(np.float32)
    values.flat[-1] = np.inf
    values[: size[0] // 2] = 0  # rows that compress
    content = exr_bytes(values[..., 0] if channels == 1 else values)
    attributes = {name: content[start : start + length] for name, start, length in header_attributes(content)}
    assert attributes.keys() >= REQUIRED
    assert attributes["channels"].count(b"\x02\0\0\0\0") == channels, "32-bit floating point"
    assert attributes["channels"][:1] == (b"Z" if channels == 1 else b"B")
    np.testing.assert_array_equal(read_exr(content.replace(b"Z\0\x02", b"Y\0\x02")), values)


def test_as_a_photo_it_is_srgb_clipped_at_white(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 3), dtype=np.float32)
    values[...] = [0.2140, 7, 0]
    (tmp_path / "a.exr").write_bytes(exr_file(values))
    assert check_photos([tmp_path / "a.exr"]) == [(4, 4)]
    np.testing.assert_allclose(read_photo(tmp_path / "a.exr", 2, 2)[0, 0], [127, 255, 0], atol=1)


def test_alpha_is_no_longer_in_the_colours(tmp_path: Path) -> None:
    values = np.full((4, 4, 4), 0.5, dtype=np.float32) * [0.2140, 1, 0, 1]
    (tmp_path / "a.exr").write_bytes(exr_file(values.astype(np.float32)))
    np.testing.assert_allclose(read_photo(tmp_path / "a.exr", 4, 4)[0, 0], [127, 255, 0, 128], atol=1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (exr_file(some_values(1)), "one channel, hence not a photo"),
        (exr_file(some_values(3), compression=8), "DWA compression, which is not supported; save it with ZIP"),
        (exr_file(some_values(3))[:60], "damaged or cannot be read"),
        (exr_file(some_values(3))[:400], "damaged or cannot be read"),
        (exr_file(some_values(3)).replace(b"displayWindow", b"displayWindoq"), "without a display window"),
    ],
    ids=["depth", "DWA", "cut off in the header", "cut off", "no window"],
)
def test_what_is_no_photo(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.exr").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_photo(tmp_path / "a.exr", 4, 4)
