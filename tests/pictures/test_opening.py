# SPDX-License-Identifier: Apache-2.0
"""Files that are no pictures, damaged ones and huge ones: one line each, whatever the format."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from exr_files import exr_file
from PIL import Image

from img3d_base.errors import InputError
from img3d_pictures import opening, reading
from img3d_pictures.opening import MAX_MEGAPIXELS, TOO_LARGE, UNREADABLE, open_picture
from img3d_pictures.reading import check_photos, read_mask, read_photo, read_upright


def claims(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims to be this large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


class TestSize:
    def test_bombs_are_refused_before_anything_is_decoded(self, tmp_path: Path) -> None:
        bomb = claims(tmp_path / "bomb.png", 60_000, 60_000)
        assert check_photos([bomb]) == [TOO_LARGE]
        with pytest.raises(InputError, match=rf"bomb\.png is larger than {MAX_MEGAPIXELS} megapixels; make a smaller"):
            read_photo(bomb, 10, 10)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(("width", "height"), [(12_000, 9_000), (16_320, 12_240)])
    def test_what_cameras_have_is_not(self, tmp_path: Path, width: int, height: int) -> None:
        with open_picture(claims(tmp_path / "a.png", width, height)) as image:
            assert image.size == (width, height)

    def test_large_pictures_are_averaged_exactly_in_strips(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for channels, name in ((3, "a.png"), (4, "b.png")):
            pixels = np.random.default_rng(0).integers(0, 256, (1000, 700, channels), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
            whole = read_photo(tmp_path / name, 93, 77).astype(int)
            with monkeypatch.context() as patch:
                patch.setattr(reading, "LARGE_MEGAPIXELS", 0.1)
                patch.setattr(opening, "LARGE_MEGAPIXELS", 0.1)
                assert np.abs(read_photo(tmp_path / name, 93, 77) - whole).max() <= 1
                assert read_photo(tmp_path / name, 800, 1100).shape == (1100, 800, channels)


class TestKinds:
    def test_names_do_not_matter_and_no_other_programs_run(self, tmp_path: Path) -> None:
        """Pillow would have Ghostscript run what is in an EPS file."""
        Image.new("RGB", (20, 20)).save(tmp_path / "a.eps")
        (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
        with pytest.raises(InputError, match=r"a\.jpg is damaged or cannot be read: it is not JPEG"):
            read_photo(tmp_path / "a.jpg", 4, 4)
        Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "b.png")
        (tmp_path / "b.png").rename(tmp_path / "b.jpg")
        assert read_photo(tmp_path / "b.jpg", 4, 4)[0, 0].tolist() == [255, 0, 0]

    def test_floating_point(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((20, 20), dtype=np.float32)).save(tmp_path / "a.tif")
        assert check_photos([tmp_path / "a.tif"]) == [UNREADABLE]
        with pytest.raises(InputError, match="its values are floating point; save it with 8 or 16 bits"):
            read_photo(tmp_path / "a.tif", 4, 4)

    def test_pipes_and_devices(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.png")
        assert check_photos([tmp_path / "a.png", Path("/dev/zero"), tmp_path]) == [UNREADABLE] * 3
        with pytest.raises(InputError, match="is a pipe, socket or device"):
            read_mask(tmp_path / "a.png", 4, 4)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def _kinds() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((48, 36))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = {kind: _saved(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF")}
    return plain | {
        "BMP": _saved(picture, "BMP"),
        "palette": _saved(picture.quantize(16), "PNG"),
        "progressive": _saved(picture, "JPEG", progressive=True),
        "deflated": _saved(picture, "TIFF", compression="tiff_adobe_deflate"),
        "CMYK": _saved(picture.convert("CMYK"), "TIFF"),
        "EXR": exr_file(pixels.astype(np.float32) / 255),
    }


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes changed, sizes that lie, pieces missing; headers more often than pixels."""
    damaged = bytearray(content)
    for _ in range(chance.choice([1, 1, 3, 8])):
        place = int(len(damaged) * chance.random() ** 3)
        kind = chance.random()
        if kind < 0.5:
            damaged[place : place + 1] = bytes([chance.randrange(256)])
        elif kind < 0.8:
            damaged[place : place + 4] = chance.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\x80\0"])
        elif kind < 0.9:
            del damaged[place : place + chance.randrange(1, 40)]
        else:
            damaged = damaged[: 1 + int(len(damaged) * chance.random())]
    return bytes(damaged)


@pytest.mark.parametrize("kind", _kinds())
def test_damaged_files_give_one_line_or_a_picture(tmp_path: Path, kind: str) -> None:
    content, path, chance = _kinds()[kind], tmp_path / "a.bin", random.Random(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = {
        "photo": lambda: read_photo(path, 30, 20),
        "mask": lambda: read_mask(path, 30, 20),
        "upright": lambda: read_upright(path, 50, (1.0, 1.0, 1.0)),
    }
    for _ in range(40):
        path.write_bytes(_damaged(content, chance))
        (checked,) = check_photos([path])
        assert isinstance(checked, tuple) or checked in (UNREADABLE, TOO_LARGE)
        for of in read.values():
            try:
                of()
            except InputError as error:
                assert "\n" not in str(error) and str(path) in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes


def test_pictures_that_git_lfs_has_not_fetched(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n")
    assert check_photos([path]) == ["in Git LFS and not fetched (run `git lfs pull`)"]
    with pytest.raises(InputError, match=r"a\.png is in Git LFS and not fetched"):
        read_photo(path, 4, 4)


def planar_tiff(bits: int) -> bytes:
    """A TIFF of 2 x 1 pixels whose channels are stored one after the other (TIFF 6.0, PlanarConfiguration)."""
    size = bits // 8
    strips = b"".join(value.to_bytes(size, "little") for value in (1, 2, 3, 4, 5, 6))
    end = 8 + len(strips)
    offsets = struct.pack("<3I", *(8 + 2 * size * i for i in range(3)))
    blocks = struct.pack("<3H", bits, bits, bits), offsets, struct.pack("<3I", *[2 * size] * 3)
    starts = [end, end + 6, end + 18]
    entries = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, starts[0]), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, starts[1]), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 3, starts[2]), (284, 3, 1, 2)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    contents = struct.pack("<2sHI", b"II", 42, end + 30) + strips + b"".join(blocks)
    return contents + directory + struct.pack("<I", 0)


def test_tiffs_whose_wide_channels_are_apart_are_refused(tmp_path: Path) -> None:
    """Pillow would decode them to other pixels, without an error."""
    path = tmp_path / "a.tif"
    path.write_bytes(planar_tiff(8))
    assert read_photo(path, 2, 1).tolist() == [[[1, 3, 5], [2, 4, 6]]]
    path.write_bytes(planar_tiff(16))
    with pytest.raises(
        InputError, match="its channels of more than 8 bits are in separate planes; save it with 8 bits"
    ):
        read_photo(path, 2, 1)
