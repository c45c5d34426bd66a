# SPDX-License-Identifier: Apache-2.0
"""Objects found by colour: exactly before plain backgrounds, white ones before white included."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from img3d_pictures.object_by_colour import (
    ObjectByColour,
    cut_by_grabcut,
    cut_from_plain,
    plain_background,
    without_specks,
)

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 120, 160
COLOUR = (200, 60, 30)


def ring(rgb: Pixels, outer: int = 40, inner: int = 0, colour: tuple[int, int, int] = COLOUR) -> Pixels:
    """The picture with a smooth-edged disc, or a ring, in its middle."""
    drawn = cv2.resize(rgb, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    middle = (2 * WIDTH, 2 * HEIGHT)
    before = drawn.copy()
    cv2.circle(drawn, middle, 4 * outer, colour, -1)
    if inner:
        hole = cv2.circle(np.zeros(drawn.shape[:2], np.uint8), middle, 4 * inner, 1, -1) > 0
        drawn[hole] = before[hole]
    return np.asarray(cv2.resize(drawn, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def plain(colour: tuple[int, int, int]) -> Pixels:
    return np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8)


def disc(radius: int) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.hypot(x - WIDTH / 2, y - HEIGHT / 2) < radius


def overlap(alpha: Pixels, expected: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    found = alpha > 127
    return float((found & expected).sum() / (found | expected).sum())


def jpeg(rgb: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


class TestPlain:
    @pytest.mark.parametrize("colour", [(255, 255, 255), (127, 127, 127), (0, 0, 0), (20, 200, 60)])
    def test_of_any_colour_also_as_jpeg(self, colour: tuple[int, int, int]) -> None:
        for picture in (ring(plain(colour)), jpeg(ring(plain(colour)))):
            cut = cut_from_plain(picture)
            assert cut is not None and overlap(cut[..., 3], disc(40)) > 0.93

    def test_lit_unevenly_and_noisy(self) -> None:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        light = 215 - 30 * (x / WIDTH) - 25 * ((y / HEIGHT - 0.5) ** 2 + (x / WIDTH - 0.5) ** 2)
        noise = np.random.default_rng(0).normal(0, 2, (HEIGHT, WIDTH, 3))
        cut = cut_from_plain(ring((light[..., None] + noise).round().astype(np.uint8)))
        assert cut is not None and overlap(cut[..., 3], disc(40)) > 0.93

    def test_an_object_that_is_cut_off_by_the_border(self) -> None:
        picture = plain((255, 255, 255))
        picture[60:, 50:110] = COLOUR
        cut = cut_from_plain(picture)
        assert cut is not None and (cut[80:, 60:100, 3] == 255).all() and (cut[:50, :, 3] == 0).all()

    def test_edges_are_free_of_the_background(self) -> None:
        cut = cut_from_plain(ring(plain((255, 255, 255))))
        assert cut is not None
        edge = (cut[..., 3] > 60) & (cut[..., 3] < 250)
        assert edge.sum() > 50
        assert np.abs(cut[edge][:, :3].astype(int) - COLOUR).mean() < 12

    def test_a_white_mug_on_white_keeps_its_inside(self) -> None:
        """Only its outline differs from the background by more than noise."""
        mug = ring(ring(plain((255, 255, 255)), 40, 0, (200, 200, 200)), 37, 0, (252, 252, 252))
        cut = cut_from_plain(mug)
        assert cut is not None and overlap(cut[..., 3], disc(40)) > 0.95

    def test_holes_of_objects_before_a_colour_are_background(self) -> None:
        cut = cut_from_plain(ring(plain((127, 127, 127)), 45, 25))
        assert cut is not None and overlap(cut[..., 3], disc(45) & ~disc(25)) > 0.95

    @pytest.mark.parametrize("seed", [0, 1])
    def test_others_are_not(self, seed: int) -> None:
        rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        assert plain_background(cv2.resize(rough, (WIDTH, HEIGHT)).astype(np.uint8)) is None

    @pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 200), (17, 1000)])
    def test_small_and_narrow_pictures(self, height: int, width: int) -> None:
        picture = np.full((height, width, 3), 255, dtype=np.uint8)
        picture[5:10, 5:10] = COLOUR
        cut = cut_from_plain(picture)
        assert cut is not None and (cut[..., 3] > 127).sum() == 25
        assert cut_by_grabcut(picture).shape == (height, width, 4)


class TestGrabCut:
    def test_the_object_differs_from_what_is_at_the_border(self) -> None:
        rough = np.random.default_rng(0).integers(40, 150, (30, 40, 3), dtype=np.uint8)
        picture = ring(cv2.resize(rough, (WIDTH, HEIGHT)).astype(np.uint8))
        assert overlap(cut_by_grabcut(picture)[..., 3], disc(40)) > 0.8
        np.testing.assert_array_equal(cut_by_grabcut(picture), cut_by_grabcut(picture))

    def test_nothing_is_found_where_nothing_is(self) -> None:
        cut_by_grabcut(plain((9, 9, 9)))

    def test_as_what_rembg_offers(self) -> None:
        picture = Image.fromarray(ring(plain((127, 127, 127))))
        (mask,) = ObjectByColour().predict(picture)
        assert mask.mode == "L" and overlap(np.asarray(mask), disc(40)) > 0.95


def test_specks_go_and_parts_stay() -> None:
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:40, 10:40] = mask[60:70, 60:70] = True
    clean = mask.copy()
    mask[90, 90] = mask[5, 80:83] = True
    np.testing.assert_array_equal(without_specks(mask), clean)
    assert not without_specks(np.zeros((5, 5), dtype=bool)).any()
