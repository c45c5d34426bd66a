# SPDX-License-Identifier: Apache-2.0
"""Masks of the object in each photo: in register with it, kept by content, and honest about what they need."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from interruptions import INTERRUPTIONS
from PIL import Image, ImageOps

from img3d_base.errors import InputError
from img3d_pictures.background import open_u2net, remove_backgrounds
from img3d_pictures.reading import read_mask, read_photo

WIDTH, HEIGHT = 120, 80
ORIENTATION = 0x0112


def is_in_object(width: int = WIDTH, height: int = HEIGHT) -> npt.NDArray[np.bool_]:
    """Where the dark thing is that the photos show: lying down, left and above the middle."""
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x / width - 0.4) / 0.3) ** 2 + ((y / height - 0.3) / 0.2) ** 2 < 1


def take_photo(path: Path, shade: int = 30, orientation: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Writes a photo of a dark thing before a bright wall that is upright once `orientation` is applied."""
    pixels = np.where(is_in_object(*size)[..., None], shade, 230).astype(np.uint8).repeat(3, axis=2)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turned = Image.fromarray(pixels)
    turned.getexif()[ORIENTATION] = undo
    ImageOps.exif_transpose(turned).save(path, exif=exif)
    return path


class DarkThings:
    """Finds whatever is dark, and remembers the pictures that it was shown."""

    def __init__(self) -> None:
        self.seen: list[Image.Image] = []

    def __call__(self) -> DarkThings:
        return self

    def predict(self, img: Image.Image) -> list[Image.Image]:
        self.seen.append(img)
        return [img.convert("L").point(lambda value: 255 - value)]


def overlap(mask: npt.NDArray[np.bool_], expected: npt.NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((mask & expected).sum() / (mask | expected).sum())


class TestMasks:
    def test_show_the_object_at_the_photo_s_size(self, tmp_path: Path) -> None:
        photos = [take_photo(tmp_path / "a.png"), take_photo(tmp_path / "b é.png", shade=60)]
        masks = remove_backgrounds(photos, tmp_path / "cache", DarkThings())
        assert len(set(masks)) == 2
        for mask in masks:
            with Image.open(mask) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "L", (WIDTH, HEIGHT))
                np.testing.assert_array_equal(np.asarray(image), 255 * is_in_object())

    def test_come_in_the_order_of_the_photos(self, tmp_path: Path) -> None:
        photos = [take_photo(tmp_path / f"{shade}.png", shade) for shade in (40, 30, 50)]
        masks = remove_backgrounds(photos, tmp_path, DarkThings())
        for photo, mask in zip(photos, masks, strict=True):
            assert remove_backgrounds([photo], tmp_path) == [mask]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_lie_on_the_photo_whichever_way_it_is_turned(self, tmp_path: Path, orientation: int) -> None:
        photo = take_photo(tmp_path / "a.png", orientation=orientation)
        session = DarkThings()
        (mask,) = remove_backgrounds([photo], tmp_path, session)
        assert session.seen[0].size == (WIDTH, HEIGHT)  # upright
        np.testing.assert_array_equal(np.asarray(session.seen[0].convert("L")) < 127, is_in_object())
        for size in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)):  # cameras that heed the orientation and that don't
            assert overlap(read_mask(mask, *size), read_photo(photo, *size)[..., 0] < 130) > 0.98

    def test_of_large_photos_fit_though_these_are_not_read_in_full(self, tmp_path: Path) -> None:
        photo = take_photo(tmp_path / "a.png", size=(3001, 1999))
        session = DarkThings()
        (mask,) = remove_backgrounds([photo], tmp_path, session)
        assert max(session.seen[0].size) == 1024
        assert overlap(read_mask(mask, 3001, 1999), is_in_object(3001, 1999)) > 0.99

    def test_photo_without_an_object_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        photos = [take_photo(tmp_path / "a.png"), take_photo(tmp_path / "blank.png", shade=230)]
        remove_backgrounds(photos, tmp_path, DarkThings())
        assert "no object was found in 1 of 2 photos: blank.png" in capsys.readouterr().out


class TestCache:
    def test_masks_are_made_once_for_each_content(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        photo = take_photo(tmp_path / "a.png")
        copy = tmp_path / "copy.png"
        copy.write_bytes(photo.read_bytes())
        session = DarkThings()
        masks = remove_backgrounds([photo, copy], tmp_path, session)
        assert masks[0] == masks[1] and len(session.seen) == 1
        assert remove_backgrounds([photo], tmp_path, session) == masks[:1]
        assert len(session.seen) == 1
        assert f"Masks: 0 made, 1 from the cache {masks[0].parent}" in capsys.readouterr().out
        assert remove_backgrounds([take_photo(photo, shade=70)], tmp_path, session) != masks[:1]
        assert len(session.seen) == 2

    def test_nothing_is_opened_for_what_is_kept_or_for_nothing(self, tmp_path: Path) -> None:
        def unwanted() -> DarkThings:
            raise AssertionError("there is nothing to do")

        photo = take_photo(tmp_path / "a.png")
        remove_backgrounds([photo], tmp_path, DarkThings())
        remove_backgrounds([photo], tmp_path, unwanted)
        assert remove_backgrounds([], tmp_path, unwanted) == []

    @INTERRUPTIONS
    def test_interrupted_run_keeps_what_is_whole_and_goes_on_there(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        interruption: BaseException,
        raised: type[BaseException],
        message: str,
    ) -> None:
        photos = [take_photo(tmp_path / f"{i}.png", shade=20 + i) for i in range(4)]
        save = Image.Image.save
        calls: list[int] = []

        def interrupted(image: Image.Image, file: Path, **options: object) -> None:
            calls.append(1)
            if len(calls) == 3:
                Path(file).write_bytes(b"half")
                raise interruption
            save(image, file, **options)

        session = DarkThings()
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "save", interrupted)
            with pytest.raises(raised, match=message):
                remove_backgrounds(photos, tmp_path / "cache", session)
        assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == 2
        masks = remove_backgrounds(photos, tmp_path / "cache", session)
        assert len(session.seen) == 3 + 2
        assert all((read_mask(mask, WIDTH, HEIGHT) == is_in_object()).all() for mask in masks)


class TestBadInput:
    @pytest.mark.parametrize("package", ["rembg", "onnxruntime"])
    def test_missing_package_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, package, None)  # as if it weren't there
        with pytest.raises(InputError, match=rf"needs .*{package}.*: run pip install 'img3d\[background\]'"):
            remove_backgrounds([take_photo(tmp_path / "a.png")], tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    def test_missing_photo(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"gone\.png cannot be read: No such file"):
            remove_backgrounds([tmp_path / "gone.png"], tmp_path, DarkThings())

    def test_damaged_photo(self, tmp_path: Path) -> None:
        photo = take_photo(tmp_path / "a.png")
        photo.write_bytes(photo.read_bytes()[:100])
        with pytest.raises(InputError, match=r"a\.png is damaged or cannot be read"):
            remove_backgrounds([photo], tmp_path, DarkThings())


def field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: a small number, or text, bytes or a message."""

    def varint(n: int) -> bytes:
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def darkness_network() -> bytes:
    """An ONNX model with U²-Net's input and output whose answer is how dark each pixel is."""

    def tensor(name: str, channels: int) -> bytes:
        shape = b"".join(field(1, field(1, size)) for size in (1, channels, 320, 320))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    axes = field(1, "axes") + field(8, 1) + field(20, 7)
    mean = field(1, "input") + field(2, "mean") + field(4, "ReduceMean") + field(5, axes)
    negative = field(1, "mean") + field(2, "output") + field(4, "Neg")
    graph = field(1, mean) + field(1, negative) + field(2, "darkness")
    graph += field(11, tensor("input", 3)) + field(12, tensor("output", 1))
    return field(1, 8) + field(8, field(2, 13)) + field(7, graph)


@pytest.mark.slow  # the first import of rembg compiles for a minute
class TestRembg:
    """With the real package, a tiny network in the place of the large one."""

    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        pytest.importorskip("onnxruntime", reason="the extra 'background' is not installed")
        pytest.importorskip("rembg", reason="the extra 'background' is not installed")
        home = tmp_path / "weights"
        monkeypatch.setenv("U2NET_HOME", str(home))
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
        return home

    def test_masks_the_object(self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        home.mkdir()
        (home / "u2net.onnx").write_bytes(darkness_network())
        monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
        photo = take_photo(tmp_path / "a.png", orientation=6)
        (mask,) = remove_backgrounds([photo], tmp_path / "cache")
        assert overlap(read_mask(mask, WIDTH, HEIGHT), is_in_object()) > 0.97

    def test_offline_says_what_is_needed_and_where_to_put_it(
        self, home: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(InputError) as caught:
            open_u2net()
        printed = capsys.readouterr().out
        assert "176 MB; Apache-2.0" in printed and "downloading https://github.com" in printed
        assert f"elsewhere and put it at {home / 'u2net.onnx'}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not list(home.glob("*"))
