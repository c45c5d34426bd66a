# SPDX-License-Identifier: Apache-2.0
"""Which photos are taken for panoramas and fisheyes, and features in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from textured_room import TexturedRoom, panorama_lens, panorama_rays, perspective_rays, poses

from img3d_base.errors import InputError
from img3d_dataparsers.sfm.matching import features_of_photo
from img3d_dataparsers.sfm.photo_cameras import camera_of
from img3d_dataparsers.sfm.photo_lens import CameraType
from img3d_dataparsers.sfm.photo_set import find_photos
from img3d_dataparsers.sfm.sift import match
from img3d_dataparsers.sfm.solve import solve

WIDTH, HEIGHT = 400, 200
GPANO = b'<rdf:Description GPano:ProjectionType="equirectangular" GPano:UsePanoramaViewer="True"/>'


@pytest.fixture(scope="module")
def panorama() -> Image.Image:
    return Image.fromarray(
        TexturedRoom().picture(poses(3)[0], (WIDTH, HEIGHT), panorama_rays(WIDTH, HEIGHT), samples=1)
    )


@pytest.fixture(scope="module")
def wide_photo() -> Image.Image:
    """Twice as wide as high, but with two ends."""
    return Image.fromarray(TexturedRoom().picture(poses(3)[0], (WIDTH, HEIGHT), perspective_rays(300, WIDTH, HEIGHT)))


def lens_of(folder: Path, image: Image.Image, camera_type: CameraType = "auto", **saving: object) -> str:
    image.save(folder / "photo.jpg", quality=92, **saving)
    [photo] = find_photos(folder, camera_type).photos
    return photo.lens


def test_edges_that_match_make_a_panorama(
    tmp_path: Path, panorama: Image.Image, wide_photo: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lens_of(tmp_path, panorama) == "equirectangular"
    assert "1 of 1 photos are taken for 360° panoramas" in capsys.readouterr().out.replace("\n", " ")
    assert lens_of(tmp_path, wide_photo) == "perspective"
    assert lens_of(tmp_path, panorama.crop((0, 0, WIDTH, HEIGHT - 20))) == "perspective"
    assert lens_of(tmp_path, panorama.crop((0, 50, WIDTH - 100, HEIGHT))) == "perspective", "a part of one"
    assert "360°" not in capsys.readouterr().out


def test_tags_make_a_panorama_and_a_fisheye(tmp_path: Path, wide_photo: Image.Image) -> None:
    assert lens_of(tmp_path, wide_photo, xmp=GPANO) == "equirectangular"
    assert lens_of(tmp_path, wide_photo.crop((0, 0, 300, HEIGHT)), xmp=GPANO) == "perspective"
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "EF8-15mm f/4L Fisheye USM"
    assert lens_of(tmp_path, wide_photo, exif=exif) == "fisheye"


def test_the_user_decides(tmp_path: Path, panorama: Image.Image, wide_photo: Image.Image) -> None:
    assert lens_of(tmp_path, panorama, "perspective") == "perspective"
    assert lens_of(tmp_path, wide_photo, "equirectangular") == "equirectangular"
    assert lens_of(tmp_path, wide_photo, "fisheye") == "fisheye"
    with pytest.raises(ValueError, match="not enough"):
        lens_of(tmp_path, wide_photo.crop((0, 0, 300, HEIGHT)), "equirectangular")
    with pytest.raises(InputError, match="not twice as wide as high, as --camera-type equirectangular requires"):
        solve(tmp_path, None, camera_type="equirectangular")


def test_other_lenses_have_cameras_and_caches_of_their_own(tmp_path: Path, panorama: Image.Image) -> None:
    lens_of(tmp_path, panorama)
    found = [find_photos(tmp_path, kind).photos[0] for kind in ("perspective", "fisheye", "equirectangular")]
    assert len({photo.digest for photo in found}) == len({photo.camera for photo in found}) == 3
    assert [camera_of(photo).model_name for photo in found] == [
        *("SIMPLE_RADIAL", "SIMPLE_RADIAL_FISHEYE", "EQUIRECTANGULAR"),
    ]
    assert [camera_of(photo).has_prior_focal_length for photo in found] == [False, True, True]


def test_features_of_a_panorama_are_where_it_shows_them(tmp_path: Path, panorama: Image.Image) -> None:
    """The same panorama turned by a third: its features lie a third further, across the edges too."""
    lens_of(tmp_path, panorama)
    turned = tmp_path / "turned"
    turned.mkdir()
    shift = WIDTH // 3
    lens_of(turned, Image.fromarray(np.roll(np.asarray(panorama), shift, axis=1)))
    first, second = (features_of_photo(find_photos(folder).photos[0], 6000) for folder in (tmp_path, turned))
    pairs = match(first.descriptors.float(), second.descriptors.float(), 0.8)
    lens, rays_of = panorama_lens(WIDTH, HEIGHT), panorama_rays(WIDTH, HEIGHT)
    xy = first.xy[pairs[:, 0]]
    expected = lens.pixels(rays_of(np.stack([(xy[:, 0] + shift) % WIDTH, xy[:, 1]], axis=1)))
    across = np.abs(second.xy[pairs[:, 1]] - expected)
    across[:, 0] = np.minimum(across[:, 0], WIDTH - across[:, 0])
    near_horizon = np.abs(xy[:, 1] - HEIGHT / 2) < HEIGHT / 4
    assert len(pairs) > 50 and np.median(np.linalg.norm(across[near_horizon], axis=1)) < 0.6
    assert (first.xy[:, 0] < WIDTH / 8).any() and (first.xy[:, 0] > 7 / 8 * WIDTH).any()
