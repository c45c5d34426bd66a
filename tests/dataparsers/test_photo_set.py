# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are photos, which camera took each, and what is left out and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from img3d_dataparsers.sfm.matching import features_of_photo
from img3d_dataparsers.sfm.photo_cameras import camera_of, sensor_pixels
from img3d_dataparsers.sfm.photo_set import Photo, find_photos
from img3d_dataparsers.sfm.sift import find_features
from img3d_pictures.orientation import UPRIGHT
from img3d_pictures.photo_folders import image_files

WIDTH, HEIGHT = 160, 120


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, tags: dict[int, object] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = image.getexif()
    for tag, value in (tags or {}).items():
        if tag in (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm, ExifTags.Base.LensModel):
            exif.get_ifd(ExifTags.IFD.Exif)[tag] = value
        else:
            exif[tag] = value
    image.save(path, exif=exif)
    return path


class TestFiles:
    @pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "tif", "TIFF", "bmp", "heic"])
    def test_formats_of_cameras_and_phones(self, tmp_path: Path, suffix: str) -> None:
        save_as = pillow_heif.from_pillow(picture(0)) if suffix == "heic" else picture(0)
        save_as.save(tmp_path / f"a.{suffix}")
        (photo,) = find_photos(tmp_path).photos
        assert photo.size == (WIDTH, HEIGHT)
        assert len(features_of_photo(photo, 500).xy) > 20

    def test_damaged_masks_cost_a_warning(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for i in range(3):
            save(tmp_path / "images" / f"{i}.png", picture(i))
            save(tmp_path / "masks" / f"{i}.png", picture(i))
        (tmp_path / "masks/1.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        masks = [photo.mask_path for photo in find_photos(tmp_path).photos]
        assert masks == [tmp_path / "masks/0.png", None, tmp_path / "masks/2.png"]
        assert "1 missing or damaged mask (images/1.png)" in capsys.readouterr().out

    def test_masks_of_another_shape_are_not_stretched(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        sizes = [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (HEIGHT, WIDTH), (HEIGHT, WIDTH), (HEIGHT, HEIGHT), (1, 1)]
        for i, size in enumerate(sizes):
            save(tmp_path / "images" / f"{i}.jpg", picture(i), {ExifTags.Base.Orientation: 6 if i == 2 else 1})
            save(tmp_path / "masks" / f"{i}.png", Image.new("L", size, 255))
        masks = [photo.mask_path for photo in find_photos(tmp_path).photos]
        assert masks == [*(tmp_path / f"masks/{i}.png" for i in range(3)), None, None, None]
        said = capsys.readouterr().out
        assert "3 masks of another shape than the photo (images/3.jpg, images/4.jpg, images/5.jpg)" in said

    @pytest.mark.parametrize(("first", "second"), [(1, 6), (2, 5), (4, 7)])
    def test_cameras_that_were_turned_have_one_lens(self, tmp_path: Path, first: int, second: int) -> None:
        """But those of photos as in a mirror: their sensor's picture is the upright one, which has another shape."""
        for i, orientation in enumerate((first, second)):
            save(tmp_path / f"{i}.jpg", picture(i), {ExifTags.Base.Orientation: orientation})
        a, b = find_photos(tmp_path).photos
        assert (a.camera == b.camera) == (a.sensor_size == b.sensor_size) == (first == 1)

    def test_sub_folders_in_the_order_people_number(self, tmp_path: Path) -> None:
        for i, name in enumerate(("b/1.png", "a/photo 10.png", "a/photo 2.png", "z.png")):
            save(tmp_path / name, picture(i))
        names = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
        assert names == ["a/photo 2.png", "a/photo 10.png", "b/1.png", "z.png"]

    @pytest.mark.parametrize("folder", ["masks", ".img3d/frames", "images_4", "outputs/run", "depth", "sub/masks"])
    def test_what_lies_beside_photos_is_none(self, tmp_path: Path, folder: str) -> None:
        save(tmp_path / "images" / "a.png", picture(0))
        save(tmp_path / folder / "a.png", picture(1))
        assert [path.parent.name for path in image_files(tmp_path)] == ["images"]

    def test_hidden_files_of_other_systems(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", picture(0))
        (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
        assert len(image_files(tmp_path)) == 1

    def test_left_out_with_the_reason(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", picture(0))
        (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "text.jpg").write_text("not a photo")
        save(tmp_path / "thumbnail.png", picture(1, 80, 60))
        found = find_photos(tmp_path)
        assert [photo.name for photo in found.photos] == ["a.png"]
        assert found.left_out == {
            "copy.png": "a copy of a.png",
            "empty.jpg": "empty",
            "text.jpg": "damaged or cannot be read",
            "thumbnail.png": "smaller than 96 pixels",
        }

    @pytest.mark.parametrize("name", ["a.jpg.png", "a.png"])
    def test_masks_in_both_namings(self, tmp_path: Path, name: str) -> None:
        save(tmp_path / "images" / "a.jpg", picture(0))
        mask = save(tmp_path / "masks" / name, Image.new("L", (WIDTH, HEIGHT), 255))
        (photo,) = find_photos(tmp_path).photos
        assert photo.mask_path == mask


class TestCameras:
    @pytest.mark.parametrize(
        "tags",
        [
            {ExifTags.Base.Model: "Other"},
            {ExifTags.Base.FocalLength: 7.0},
            {ExifTags.Base.FocalLengthIn35mmFilm: 52},
            {ExifTags.Base.LensModel: "tele"},
        ],
        ids=["camera", "zoom", "equivalent zoom", "lens"],
    )
    def test_another_camera_lens_or_zoom_has_intrinsics_of_its_own(
        self, tmp_path: Path, tags: dict[int, object]
    ) -> None:
        common: dict[int, object] = {ExifTags.Base.Model: "Phone", ExifTags.Base.FocalLength: 4.2}
        for i in range(2):
            save(tmp_path / f"{i}.jpg", picture(i), common)
        save(tmp_path / "2.jpg", picture(2), {**common, **tags})
        cameras = [photo.camera for photo in find_photos(tmp_path).photos]
        assert cameras[0] == cameras[1] != cameras[2]

    def test_another_size_is_another_camera(self, tmp_path: Path) -> None:
        save(tmp_path / "a.jpg", picture(0))
        save(tmp_path / "b.jpg", picture(1, 200, 120))
        first, second = find_photos(tmp_path).photos
        assert first.camera != second.camera

    def test_focal_length_from_exif(self, tmp_path: Path) -> None:
        """26 mm equivalent: 26/43.27 of the diagonal, which is 200 pixels here."""
        save(tmp_path / "a.jpg", picture(0), {ExifTags.Base.FocalLengthIn35mmFilm: 26})
        (photo,) = find_photos(tmp_path).photos
        assert photo.focal_length == pytest.approx(200 * 26 / 43.27)
        assert camera_of(photo).has_prior_focal_length

    @pytest.mark.parametrize("millimetres", [0, 1, 5000])
    def test_impossible_focal_lengths_are_ignored(self, tmp_path: Path, millimetres: int) -> None:
        save(tmp_path / "a.jpg", picture(0), {ExifTags.Base.FocalLengthIn35mmFilm: millimetres})
        (photo,) = find_photos(tmp_path).photos
        assert photo.focal_length is None
        assert not camera_of(photo).has_prior_focal_length


def photo_with(orientation: int) -> Photo:
    return Photo(Path("a.jpg"), "a.jpg", None, (WIDTH, HEIGHT), orientation, "camera", None, "digest")


class TestOrientation:
    @given(st.sampled_from([1, 3, 6, 8]), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
    def test_sensor_pixels_undo_the_turn(self, orientation: int, column: int, row: int) -> None:
        stored = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        stored[row, column] = 255
        image = Image.fromarray(stored)
        turn, _ = UPRIGHT.get(orientation, (None, None))
        upright: npt.NDArray[np.uint8] = np.asarray(image if turn is None else image.transpose(turn))
        y, x = np.argwhere(upright == 255)[0] + 0.5
        found = sensor_pixels(np.array([[x, y]]), photo_with(orientation))
        np.testing.assert_allclose(found, [[column + 0.5, row + 0.5]])

    @pytest.mark.parametrize("orientation", [2, 4, 5, 7])
    def test_of_mirrored_photos_the_upright_pixels_count(self, tmp_path: Path, orientation: int) -> None:
        """A mirrored world is no other view of the world: nothing could be matched, or wrongly."""
        save(tmp_path / "a.jpg", picture(0))
        save(tmp_path / "b.jpg", picture(0), {ExifTags.Base.Orientation: orientation})
        plain, photo = find_photos(tmp_path).photos
        assert photo.camera != plain.camera and photo.quarter_turns == 0
        assert photo.sensor_size == photo.upright_size == (photo.size if orientation < 5 else photo.size[::-1])

    @pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
    def test_features_are_found_in_the_upright_photo(self, tmp_path: Path, orientation: int) -> None:
        stored = picture(0).transpose(UPRIGHT[orientation][1])
        save(tmp_path / "a.png", picture(0))
        save(tmp_path / "b.png", stored, {ExifTags.Base.Orientation: orientation})
        plain, photo = find_photos(tmp_path).photos
        np.testing.assert_array_equal(features_of_photo(photo, 100).xy, features_of_photo(plain, 100).xy)


class TestFeatures:
    def test_none_where_the_photo_is_transparent(self) -> None:
        image = np.asarray(picture(0).convert("RGBA")).copy()
        image[:, 80:, 3] = 0
        features = find_features(image, None, 1000)
        assert len(features.xy) > 20 and features.xy[:, 0].max() < 82

    def test_none_at_all_on_a_plain_photo(self) -> None:
        features = find_features(np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8), None, 1000)
        assert features.xy.shape == (0, 2) and features.descriptors.shape == (0, 128)

    def test_they_carry_the_photo_s_colours(self) -> None:
        image = np.asarray(picture(0))
        features = find_features(image, None, 1000)
        column, row = np.floor(features.xy).astype(int).T
        assert np.abs(image[row, column].astype(int) - features.rgb).mean() < 10
