# SPDX-License-Identifier: Apache-2.0
"""Reading pictures: every pixel is the mean of the area it covers, whatever the file's mode, size and orientation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from img3d_base.errors import InputError
from img3d_pictures.opening import UNREADABLE
from img3d_pictures.orientation import UPRIGHT
from img3d_pictures.reading import (
    check_photos,
    is_turned,
    read_mask,
    read_photo,
    read_upright,
    stored_size_of,
    transposed,
)


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / width * 5 + y / height * 3), np.cos(x / width * 4), np.sin(y / height * 7)]
    return np.round(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def area_average(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Exact area average by integrating the piecewise constant picture; independent of Pillow."""

    def weights(size: int, target: int) -> np.ndarray:
        edges = np.linspace(0, size, target + 1)
        low, high = edges[:-1, None], edges[1:, None]
        cell = np.arange(size)[None]
        return np.clip(np.minimum(high, cell + 1) - np.maximum(low, cell), 0, None) * target / size

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    return np.einsum("ij,jkc,lk->ilc", rows, image.astype(np.float64), columns, optimize=True)


class TestResizing:
    def test_same_size_is_untouched(self, tmp_path: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png", 30, 20), picture)

    @pytest.mark.parametrize(("width", "height"), [(15, 10), (10, 7), (1, 1)])
    def test_pixels_are_area_averages(self, tmp_path: Path, width: int, height: int) -> None:
        picture = smooth_picture(20, 30)
        Image.fromarray(picture).save(tmp_path / "a.png")
        read = read_photo(tmp_path / "a.png", width, height)
        assert read.shape == (height, width, 3)
        np.testing.assert_allclose(read, area_average(picture, height, width), atol=1)

    @settings(deadline=None, max_examples=30)
    @given(st.integers(90, 400), st.integers(90, 400), st.floats(2.0, 12.0))
    def test_fast_jpeg_decoding_shifts_nothing(
        self, tmp_path_factory: pytest.TempPathFactory, width: int, height: int, factor: float
    ) -> None:
        """libjpeg rounds reduced sizes up: where that matters, the photo has to be decoded in full."""
        path = tmp_path_factory.mktemp("jpeg") / "a.jpg"
        picture = smooth_picture(height, width)
        Image.fromarray(picture).save(path, quality=98, subsampling=0)
        target = max(1, round(width / factor)), max(1, round(height / factor))
        read = read_photo(path, *target).astype(np.float64)
        expected = area_average(picture, target[1], target[0])
        assert np.abs(read - expected).max() < 6
        assert np.abs(read - expected).mean() < 1


class TestModes:
    @pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "RGB"])
    def test_opaque_modes_become_rgb(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
        read = read_photo(path, 8, 6)
        assert read.shape == (6, 8, 3) and (read == 255).all()

    def test_sixteen_bits(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((6, 8), 0x8012, dtype=np.uint16)).save(tmp_path / "a.png")
        assert (read_photo(tmp_path / "a.png", 8, 6) == 0x80).all()

    def test_alpha_is_kept_without_a_colour_to_put_behind_it(self, tmp_path: Path) -> None:
        Image.new("RGBA", (8, 6), (10, 20, 30, 128)).save(tmp_path / "a.png")
        assert read_photo(tmp_path / "a.png", 4, 3)[0, 0].tolist() == pytest.approx([10, 20, 30, 128], abs=1)

    def test_alpha_is_composited_before_resizing(self, tmp_path: Path) -> None:
        """Half of each target pixel is opaque green, the other half transparent red: no red may bleed in."""
        picture = np.zeros((2, 4, 4), dtype=np.uint8)
        picture[:, 0::2] = [0, 200, 0, 255]
        picture[:, 1::2] = [255, 0, 0, 0]
        Image.fromarray(picture, "RGBA").save(tmp_path / "a.png")
        read = read_photo(tmp_path / "a.png", 2, 1, alpha_color=(1.0, 1.0, 1.0))
        np.testing.assert_allclose(read[0, 0], [127.5, 227.5, 127.5], atol=1)


class TestOrientation:
    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_exif_is_applied_where_the_camera_is_turned(self, tmp_path: Path, orientation: int) -> None:
        from PIL import ImageOps

        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(smooth_picture(20, 30)).save(tmp_path / "a.png", exif=exif)
        with Image.open(tmp_path / "a.png") as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png", 20, 30), expected)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.png", 30, 20), smooth_picture(20, 30))

    @pytest.mark.parametrize("name", ["a.png", "a.tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright_or_as_stored_whatever_the_format(self, tmp_path: Path, name: str, orientation: int) -> None:
        """Pillow turns TIFFs by itself, and no others."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = smooth_picture(20, 30)
        to_stored = UPRIGHT.get(orientation, (None, None))[1]
        stored = transposed(upright, to_stored)
        Image.fromarray(stored).save(tmp_path / name, exif=exif)
        (size,) = check_photos([tmp_path / name])
        assert size == stored_size_of(tmp_path / name) == (stored.shape[1], stored.shape[0])
        np.testing.assert_array_equal(read_photo(tmp_path / name, 30, 20, upright=True), upright)
        np.testing.assert_array_equal(read_photo(tmp_path / name, *size), stored)
        np.testing.assert_array_equal(read_upright(tmp_path / name, 99), upright)
        assert is_turned(tmp_path / name, 30, 20, upright=True) == (orientation > 4)
        assert is_turned(tmp_path / name, 30, 20) == (orientation > 4)
        assert not is_turned(tmp_path / name, *size)

    def test_turned_photos_are_resized_the_right_way_round(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(smooth_picture(400, 600)).save(tmp_path / "a.jpg", exif=exif, quality=98)
        read = read_photo(tmp_path / "a.jpg", 40, 60)
        expected = area_average(np.rot90(smooth_picture(400, 600), -1), 60, 40)
        np.testing.assert_allclose(read, expected, atol=5)


class TestMasks:
    @pytest.mark.parametrize("white", [1, 255])
    def test_white_is_used(self, tmp_path: Path, white: int) -> None:
        mask = np.zeros((6, 8), dtype=np.uint8)
        mask[:, 4:] = white
        Image.fromarray(mask).save(tmp_path / "m.png")
        assert read_mask(tmp_path / "m.png", 4, 3).tolist() == [[False, False, True, True]] * 3

    def test_black_mask_uses_nothing(self, tmp_path: Path) -> None:
        Image.new("L", (8, 6)).save(tmp_path / "m.png")
        assert not read_mask(tmp_path / "m.png", 8, 6).any()

    @pytest.mark.parametrize("orientation", [2, 3, 6, 7, 8])
    def test_lie_on_photos_that_come_upright(self, tmp_path: Path, orientation: int) -> None:
        """With an orientation of their own, without one but upright, or in the shape of the photo's stored pixels."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = np.zeros((20, 30), dtype=np.uint8)
        upright[:8, :11] = 255
        stored = transposed(upright, UPRIGHT[orientation][1])
        Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
        Image.fromarray(stored).save(tmp_path / "tagged.png", exif=exif)
        Image.fromarray(stored).save(tmp_path / "stored.png")
        Image.fromarray(upright).save(tmp_path / "upright.png")
        names = ["tagged.png", "upright.png", *(["stored.png"] if orientation > 4 else [])]
        for name in names:
            mask = read_mask(tmp_path / name, 30, 20, upright=True, photo=tmp_path / "photo.png")
            np.testing.assert_array_equal(mask, upright > 0)
        if orientation > 4:  # the camera's shape tells that it sees the stored pixels
            for name in ("tagged.png", "upright.png", "stored.png"):
                mask = read_mask(tmp_path / name, 20, 30, photo=tmp_path / "photo.png")
                np.testing.assert_array_equal(mask, stored > 0)

    def test_jpeg_ringing_does_not_count(self, tmp_path: Path) -> None:
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[10:30, 20:41] = 255
        Image.fromarray(mask).save(tmp_path / "m.jpg", quality=60)
        assert (read_mask(tmp_path / "m.jpg", 64, 48) == (mask > 0)).mean() > 0.99

    @pytest.mark.parametrize("color", [0, 128, 255])
    def test_transparency_is_the_mask(self, tmp_path: Path, color: int) -> None:
        """As in cut-outs, and in masks of programs that draw white on nothing."""
        pixels = np.full((48, 64, 4), color, dtype=np.uint8)
        pixels[..., 3] = 0
        pixels[10:30, 20:41, 3] = 255
        Image.fromarray(pixels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 64, 48), pixels[..., 3] > 0)

    def test_opaque_pictures_with_alpha_are_read_by_brightness(self, tmp_path: Path) -> None:
        pixels = np.full((48, 64, 4), 255, dtype=np.uint8)
        pixels[10:30, 20:41, :3] = 0
        Image.fromarray(pixels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 64, 48), pixels[..., 0] > 0)


def test_check_tells_whole_files_from_damaged_ones(tmp_path: Path) -> None:
    Image.fromarray(smooth_picture(20, 30)).save(tmp_path / "a.jpg")
    Image.fromarray(smooth_picture(20, 30)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "flipped.png").write_bytes(whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])
    (tmp_path / "short.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200])
    names = ["a.jpg", "a.png", "flipped.png", "short.jpg", "gone.png", "."]
    assert check_photos([tmp_path / name for name in names]) == [(30, 20), (30, 20), *[UNREADABLE] * 4]


def test_what_heif_photos_need_is_said_only_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # importing it fails
    assert check_photos([tmp_path / "a.jpg"]) == [(20, 10)]
    with pytest.raises(InputError, match=r"b\.heic is a HEIF photo, and the package pillow-heif that reads these"):
        check_photos([tmp_path / "b.heic"])


def test_damaged_heif_photos_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert check_photos([tmp_path / "b.heic"]) == [UNREADABLE]
