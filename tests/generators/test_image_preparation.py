# SPDX-License-Identifier: Apache-2.0
"""Images for generators: whatever people have, cut out and framed alike; what cannot be used is named in one line."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img3d_base.errors import InputError
from img3d_generators.image_preparation import (
    MAX_SIDE,
    cut_out,
    matted,
    prepared_image,
    recentred,
    single_images,
    to_pil,
)
from img3d_generators.posed_views import PosedViews
from img3d_pictures import background
from img3d_pictures.background import Session
from img3d_pictures.object_by_colour import ObjectByColour

COLOUR = (200, 60, 30)


class NotGrey:
    """Finds whatever is not quite grey."""

    def predict(self, img: Image.Image) -> list[Image.Image]:
        pixels = np.asarray(img, dtype=int)
        return [Image.fromarray((255 * (np.ptp(pixels, axis=-1) > 40)).astype(np.uint8))]


def open_not_grey() -> Session:
    """Opens it."""
    return NotGrey()


def unwanted() -> Session:
    """For images that say themselves what the object is."""
    raise AssertionError("nobody asked for rembg")


def object_picture(height: int, width: int, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """RGBA: a coloured rectangle (top, bottom, left, right) on transparent green."""
    pixels = np.zeros((height, width, 4), dtype=np.uint8)
    pixels[..., 1] = 255
    top, bottom, left, right = box
    pixels[top:bottom, left:right] = (*COLOUR, 255)
    return pixels


def extent(alpha: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is mostly opaque."""
    rows, columns = (np.flatnonzero((alpha > 127).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


class TestFraming:
    @given(
        st.integers(60, 300),
        st.integers(60, 300),
        st.integers(20, 50),
        st.integers(20, 50),
        st.sampled_from([0.1, 0.3]),
    )
    def test_the_object_is_in_the_middle_and_fills_the_square(
        self, height: int, width: int, tall: int, wide: int, border: float
    ) -> None:
        pixels = object_picture(height, width, (5, 5 + tall, 7, 7 + wide))
        top, bottom, left, right = extent(recentred(pixels, border, 128, Path("a.png"))[..., 3])
        assert abs(top + bottom - 128) <= 2 and abs(left + right - 128) <= 2
        assert max(bottom - top, right - left) == pytest.approx(128 * (1 - border), abs=2)
        assert (bottom - top) / (right - left) == pytest.approx(tall / wide, rel=0.1)

    def test_edges_keep_the_object_s_colour(self) -> None:
        square = recentred(object_picture(90, 90, (10, 60, 20, 51)), 0.2, 100, Path("a.png"))
        np.testing.assert_allclose(
            square[square[..., 3] > 8][:, :3], [COLOUR] * int((square[..., 3] > 8).sum()), atol=8
        )

    def test_specks_do_not_count(self) -> None:
        """Removing a background often leaves a few opaque pixels somewhere."""
        pixels = object_picture(200, 200, (50, 100, 50, 100))
        pixels[3:6, 3:6, 3] = 255
        pixels[195, 190:196, 3] = 255
        assert extent(recentred(pixels, 0.2, 100, Path("a.png"))[..., 3]) == (10, 90, 10, 90)

    def test_parts_apart_do(self) -> None:
        """A pair of shoes is one object."""
        pixels = object_picture(200, 200, (50, 100, 20, 60))
        pixels[50:100, 140:180, 3] = 255
        top, bottom, left, right = extent(recentred(pixels, 0.2, 100, Path("a.png"))[..., 3])
        assert (left, right) == (10, 90) and bottom - top == 25

    def test_faint_rests_of_the_background_do_not_count(self) -> None:
        pixels = object_picture(200, 200, (50, 100, 50, 100))
        pixels[3, 3, 3] = 20
        assert extent(recentred(pixels, 0.2, 100, Path("a.png"))[..., 3]) == (10, 90, 10, 90)


class TestReading:
    def test_transparency_says_what_the_object_is(self, tmp_path: Path) -> None:
        Image.fromarray(object_picture(80, 120, (10, 60, 20, 60))).save(tmp_path / "a.png")
        image = prepared_image(tmp_path / "a.png", border_ratio=0.2, size=100, open_session=unwanted)
        assert image.shape == (4, 100, 100)
        torch.testing.assert_close(image[:, 50, 50], torch.tensor([*COLOUR, 255]) / 255)
        assert image[3, 5, 50] == 0
        assert to_pil(image).getpixel((50, 50)) == (*COLOUR, 255)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
    def test_without_it_the_object_is_looked_for(self, tmp_path: Path, mode: str) -> None:
        opaque = object_picture(80, 120, (10, 60, 20, 60))
        opaque[opaque[..., 3] == 0] = (128, 128, 128, 255)
        name = "a.jpg" if mode == "CMYK" else "a.png"
        stripes = np.where(np.arange(120) // 8 % 2, 90, 128)  # a background that is not plain
        opaque[..., :3] = np.where((opaque[..., :3] == 128).all(axis=-1)[..., None], stripes[:, None], opaque[..., :3])
        Image.fromarray(opaque).convert(mode).save(tmp_path / name)
        if mode == "L":
            with pytest.raises(InputError, match=r"a\.png shows nothing: .* no object was found"):
                prepared_image(tmp_path / name, open_session=open_not_grey)
            return
        pixels = cut_out(tmp_path / name, open_not_grey)
        assert extent(pixels[..., 3]) == pytest.approx((10, 60, 20, 60), abs=2)
        np.testing.assert_allclose(pixels[35, 40, :3], COLOUR, atol=12)

    def test_photos_are_turned_upright(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(object_picture(80, 120, (10, 30, 20, 110))).save(tmp_path / "a.png", exif=exif)
        assert extent(cut_out(tmp_path / "a.png", unwanted)[..., 3]) == (20, 110, 50, 70)

    def test_large_photos_are_reduced_at_once(self, tmp_path: Path) -> None:
        photo = np.full((4000, 5000, 3), 128, dtype=np.uint8)
        photo[1000:3000, 1500:2500] = COLOUR
        Image.fromarray(photo).save(tmp_path / "a.jpg", quality=80)
        del photo
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pixels = cut_out(tmp_path / "a.jpg", open_not_grey)
        assert max(pixels.shape) == MAX_SIDE
        assert extent(pixels[..., 3]) == pytest.approx((410, 1229, 614, 1024), abs=3)
        if sys.platform == "linux":
            assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 200  # MB


class TestWithoutAnyNetwork:
    def test_plain_backgrounds_need_none(self, tmp_path: Path) -> None:
        for name, behind in (("a.png", (255, 255, 255)), ("b.jpg", (252, 250, 251)), ("c.png", (30, 160, 60))):
            pixels = np.full((120, 160, 3), behind, dtype=np.uint8)
            pixels[30:90, 50:110] = COLOUR
            Image.fromarray(pixels).save(tmp_path / name)
            cut = cut_out(tmp_path / name, unwanted)
            assert extent(cut[..., 3]) == pytest.approx((30, 90, 50, 110), abs=1)
            np.testing.assert_allclose(cut[60, 80, :3], COLOUR, atol=12)

    def test_others_are_guessed_with_one_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(background, "rembg_is_installed", lambda: False)
        pixels = np.random.default_rng(0).integers(60, 140, (120, 160, 3), dtype=np.uint8)
        pixels[30:90, 50:110] = COLOUR
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert extent(cut_out(tmp_path / "a.png")[..., 3]) == pytest.approx((30, 90, 50, 110), abs=4)
        (line,) = capsys.readouterr().out.splitlines()
        assert re.search(r"a\.png has no transparent or plain background: its object is guessed .*\(GrabCut\)", line)

    def test_rembg_without_its_weights_stops_nothing(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def no_weights() -> Session:
            raise InputError("the weights of U²-Net cannot be downloaded")

        monkeypatch.setattr(background, "rembg_is_installed", lambda: True)
        monkeypatch.setattr(background, "open_u2net", no_weights)
        assert isinstance(background.open_object_finder(), ObjectByColour)
        assert "cannot be downloaded; until then objects are found by their colours" in capsys.readouterr().out


class TestRefusals:
    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.zeros((64, 64, 4)), r"a\.png shows nothing: all of it is transparent"),
            (np.zeros((2, 2, 4)), r"a\.png is only 2 x 2 pixels; give one of at least 16"),
            (object_picture(64, 64, (3, 7, 3, 6)), r"the object in .*a\.png has only 4 pixels"),
        ],
    )
    def test_pictures_with_nothing_to_see(self, tmp_path: Path, pixels: npt.NDArray[np.float64], message: str) -> None:
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=message):
            prepared_image(tmp_path / "a.png", open_session=unwanted)

    def test_nothing_but_background(self, tmp_path: Path) -> None:
        Image.new("RGB", (64, 64), (250, 250, 250)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"a\.png shows nothing: .* no object was found in it"):
            prepared_image(tmp_path / "a.png", open_session=unwanted)

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.txt"])
    def test_no_image(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(InputError, match=rf"{name} is damaged or cannot be read: it is not JPEG, PNG, "):
            prepared_image(tmp_path / name)

    def test_half_an_image(self, tmp_path: Path) -> None:
        Image.fromarray(object_picture(80, 120, (10, 60, 20, 60))).save(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-60])
        with pytest.raises(InputError, match=r"a\.png is damaged or cannot be read: image file is truncated"):
            prepared_image(tmp_path / "a.png")


class TestPaths:
    def test_one_image_or_those_of_a_folder(self, tmp_path: Path) -> None:
        for name in ("b10.png", "b2.jpg", "notes.txt"):
            (tmp_path / name).touch()
        assert single_images(tmp_path / "b2.jpg") == [tmp_path / "b2.jpg"]
        assert single_images(tmp_path) == [tmp_path / "b2.jpg", tmp_path / "b10.png"]

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"There is no .*gone\.png"):
            single_images(tmp_path / "gone.png")
        with pytest.raises(InputError, match=r"holds no images \(png, jpg, "):
            single_images(tmp_path)


def test_tiles_on_grey_are_put_on_white() -> None:
    """The object's own colour comes out, also where its edge is mixed with the grey."""
    coverage = torch.zeros(1, 1, 32, 32)
    coverage[..., 8:24, 8:24] = 1
    coverage[..., 8:24, 24] = 0.5
    colour = torch.tensor(COLOUR).view(1, 3, 1, 1) / 255
    grey = 127 / 255

    class Known:
        def predict(self, img: Image.Image) -> list[Image.Image]:
            return [Image.fromarray((255 * coverage[0, 0]).round().byte().numpy())]

    painted = PosedViews(coverage * colour + (1 - coverage) * grey, torch.eye(3, 4)[None], 30)
    views = matted(painted, 127, Known())
    assert views.alphas is not None
    torch.testing.assert_close(views.alphas, coverage, atol=1 / 255, rtol=0)
    torch.testing.assert_close(views.images, coverage * colour + (1 - coverage), atol=3 / 255, rtol=0)
