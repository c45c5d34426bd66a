# SPDX-License-Identifier: Apache-2.0
"""Colours of picture files: profiles and tags are followed, damaged ones ignored."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from img3d_pictures.colour_profiles import icc_conversion
from img3d_pictures.opening import open_picture
from img3d_pictures.reading import read_photo

RED, GREY = (255, 0, 0), (120, 120, 120)
P3_OF_RED = (234, 51, 35)


def matrix_profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], gamma: float) -> bytes:
    """An ICC profile of version 2 of an RGB space.

    Args:
        red: its XYZ, adapted to D50; likewise `green` and `blue`.
        gamma: of all three channels.
    """

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(79)
    white = xyz((0.9642, 1.0, 0.8249))
    tags = {b"desc": text, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": white, b"rXYZ": xyz(red)}
    tags |= {b"gXYZ": xyz(green), b"bXYZ": xyz(blue), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    table, data = b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI", 128 + len(body), b"test", 0x02400000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header + bytes(128 - len(header)) + body


DISPLAY_P3 = matrix_profile((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), 2.2)
ADOBE_RGB = matrix_profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixel(path: Path) -> list[int]:
    return read_photo(path, 8, 8)[4, 4].tolist()


class TestProfiles:
    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.heic", "a.avif"])
    def test_colours_are_converted(self, tmp_path: Path, name: str) -> None:
        options = {"quality": 100} if name[-3:] in ("jpg", "ebp", "eic", "vif") else {}
        Image.new("RGB", (64, 64), P3_OF_RED).save(tmp_path / name, icc_profile=DISPLAY_P3, **options)
        np.testing.assert_allclose(pixel(tmp_path / name), RED, atol=6)

    def test_adobe_rgb(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8), (219, 0, 0)).save(tmp_path / "a.png", icc_profile=ADOBE_RGB)
        np.testing.assert_allclose(pixel(tmp_path / "a.png"), RED, atol=3)

    def test_alpha_stays(self, tmp_path: Path) -> None:
        Image.new("RGBA", (8, 8), (*P3_OF_RED, 77)).save(tmp_path / "a.png", icc_profile=DISPLAY_P3)
        np.testing.assert_allclose(pixel(tmp_path / "a.png"), (*RED, 77), atol=4)

    def test_grey_photos_with_a_profile_for_colours(self, tmp_path: Path) -> None:
        Image.new("L", (8, 8), 120).save(tmp_path / "a.png", icc_profile=DISPLAY_P3)
        np.testing.assert_allclose(pixel(tmp_path / "a.png"), GREY, atol=8)  # gamma 2.2 is not quite sRGB's curve

    def test_srgb_s_own_changes_nothing(self, tmp_path: Path) -> None:
        assert icc_conversion(SRGB) is None
        picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "a.png", icc_profile=SRGB)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png", 8, 8), picture)

    @pytest.mark.parametrize("profile", [b"rubbish", DISPLAY_P3[:200], bytes(500), b"x" * 132 + DISPLAY_P3[132:]])
    def test_damaged_ones_are_ignored(self, tmp_path: Path, profile: bytes) -> None:
        Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", icc_profile=profile)
        assert pixel(tmp_path / "a.png") == list(RED)

    def test_one_for_another_kind_of_picture_is_ignored(self, tmp_path: Path) -> None:
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        Image.new("RGB", (8, 8), RED).save(tmp_path / "a.png", icc_profile=lab)
        Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=DISPLAY_P3)
        assert pixel(tmp_path / "a.png") == list(RED)
        assert pixel(tmp_path / "a.tif") == list(RED)


class TestTags:
    def test_cameras_say_adobe_rgb_in_exif(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
        Image.new("RGB", (64, 64), (219, 0, 0)).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
        np.testing.assert_allclose(pixel(tmp_path / "a.jpg"), RED, atol=4)

    def test_heic_says_display_p3_without_a_profile(self, tmp_path: Path) -> None:
        image = Image.new("RGB", (64, 64), P3_OF_RED)
        image.save(tmp_path / "a.heic", quality=100, color_primaries=12, transfer_characteristics=13)
        with open_picture(tmp_path / "a.heic") as opened:
            assert opened.info["nclx_profile"]["color_primaries"] == 12
        np.testing.assert_allclose(pixel(tmp_path / "a.heic"), RED, atol=6)


@pytest.mark.parametrize(
    ("chunks", "level"),
    [
        ([(b"gAMA", 100_000)], 188),
        ([(b"gAMA", 45_455)], 128),
        ([(b"gAMA", 55_556)], 128),
        ([(b"sRGB", None), (b"gAMA", 100_000)], 128),
        ([], 128),
    ],
)
def test_only_png_of_linear_light_follow_their_gamma(
    tmp_path: Path, chunks: list[tuple[bytes, int | None]], level: int
) -> None:
    """Half of white's light is level 188 in sRGB."""
    info = PngImagePlugin.PngInfo()
    for name, gamma in chunks:
        info.add(name, b"\0" if gamma is None else struct.pack(">I", gamma))
    Image.new("RGB", (4, 4), (128, 128, 128)).save(tmp_path / "a.png", pnginfo=info)
    assert (read_photo(tmp_path / "a.png", 4, 4) == level).all()
