# SPDX-License-Identifier: Apache-2.0
"""Tags of photos: where they were taken and which way up, and the scale and north that follow."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.sfm.geolocation import geo_scale
from img3d_dataparsers.sfm.photo_sensors import GeoPosition, position_of, sensed_up
from img3d_dataparsers.sfm.placement import placement_of


def photo(gps: dict[int, Any] | None = None, maker_note: bytes | None = None, xmp: bytes | None = None) -> Image.Image:
    """A JPEG with such tags, as it is read."""
    exif = Image.Exif()
    if gps is not None:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps)
    if maker_note is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = maker_note
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif, **({} if xmp is None else {"xmp": xmp}))
    return Image.open(io.BytesIO(file.getvalue()))


def apple_note(x: float, y: float, z: float) -> bytes:
    """As iPhones write it: a big-endian directory with the accelerometer's values as fractions."""
    tags = struct.pack(">H", 1) + struct.pack(">HHII", 8, 10, 3, 14 + 2 + 12 + 4) + struct.pack(">I", 0)
    values = [Fraction(value).limit_denominator(10_000) for value in (x, y, z)]
    numbers = b"".join(struct.pack(">ii", value.numerator, value.denominator) for value in values)
    return b"Apple iOS\0\0\1MM" + tags + numbers


def dms(value: float) -> tuple[IFDRational, ...]:
    minutes, seconds = divmod(round(abs(value) * 3600 * 10_000), 600_000)
    return IFDRational(minutes // 60), IFDRational(minutes % 60), IFDRational(seconds, 10_000)


GPS = ExifTags.GPS


class TestTags:
    def test_positions(self) -> None:
        tags = {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: dms(-33.8568),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: dms(151.2153),
            GPS.GPSAltitudeRef: b"\1",
            GPS.GPSAltitude: IFDRational(25, 2),
        }
        position = position_of(photo(tags))
        assert position is not None
        assert (position.latitude, position.longitude) == pytest.approx((-33.8568, 151.2153), abs=1e-6)
        assert position.altitude == -12.5

    @pytest.mark.parametrize(
        "tags",
        [
            {},
            {GPS.GPSLatitude: dms(12), GPS.GPSLatitudeRef: "N"},
            {GPS.GPSLatitude: dms(0), GPS.GPSLongitude: dms(0)},
            {GPS.GPSLatitude: (IFDRational(1, 0),) * 3, GPS.GPSLongitude: dms(1)},
            {GPS.GPSLatitude: dms(123), GPS.GPSLongitude: dms(1)},
        ],
    )
    def test_no_position(self, tags: dict[int, Any]) -> None:
        assert position_of(photo(tags)) is None

    @pytest.mark.parametrize(
        ("gravity", "up"),
        [
            ((0, -1, 0), (-1, 0, 0)),  # held upright: the stored picture lies on its left side (EXIF orientation 6)
            ((-1, 0, 0), (0, 1, 0)),  # held across, the home button on the right: the stored picture is upright
            ((0, 0, -1), (0, 0, 1)),  # lying on its back: the lens looks down
        ],
    )
    def test_an_iphone_s_accelerometer(self, gravity: tuple[float, ...], up: tuple[float, ...]) -> None:
        assert sensed_up(photo(maker_note=apple_note(*gravity))) == pytest.approx(up)

    def test_a_phone_that_moves_knows_no_up(self) -> None:
        assert sensed_up(photo(maker_note=apple_note(0.5, -1.5, 0.3))) is None

    def test_a_gimbal(self) -> None:
        xmp = b'<x:xmpmeta drone-dji:GimbalRollDegree="+0.00" drone-dji:GimbalPitchDegree="-90.00"/>'
        assert sensed_up(photo(xmp=xmp)) == pytest.approx((0, 0, 1))
        level = b"<drone-dji:GimbalRollDegree>0.0</a> <drone-dji:GimbalPitchDegree>+0.0</a>"
        assert sensed_up(photo(xmp=level)) == pytest.approx((0, 1, 0))
        assert sensed_up(photo()) is None

    @given(st.binary(max_size=80), st.binary(max_size=80))
    def test_damaged_tags_are_passed_over(self, note: bytes, xmp: bytes) -> None:
        image = photo(maker_note=b"Apple iOS\0\0\1MM" + note, xmp=b"drone-dji:GimbalPitchDegree=" + xmp)
        sensed_up(image)
        assert position_of(image) is None


def walk(extent: float, count: int = 20) -> FloatArray:
    """Places `[N, 3]` in metres, east, north and up, on a circle."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([extent * np.cos(angles), extent * np.sin(angles), np.full(count, 1.6)], axis=1)


def on_earth(metres: FloatArray) -> list[GeoPosition | None]:
    """Near 50 degrees north, 8 degrees east."""
    return [GeoPosition(50 + north / 111_229, 8 + east / 71_696, 100 + up) for east, north, up in metres]


class TestScale:
    def test_scale_and_north(self) -> None:
        places = walk(30.0)
        noise = np.random.default_rng(0).normal(size=places.shape) * 2
        turn = 0.7
        here = (places[:, :2] @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / 12
        scale = geo_scale(np.concatenate([here, places[:, 2:]], axis=1), on_earth(places + noise))
        assert scale is not None
        assert scale.metres_per_unit == pytest.approx(12, rel=0.05) and 0.005 < scale.relative_error < 0.03
        assert scale.turn == pytest.approx(turn, abs=0.05) and scale.photos == 20
        assert (scale.latitude, scale.longitude) == pytest.approx((50, 8), abs=3e-5)

    def test_wrong_positions_do_not_count(self) -> None:
        positions = on_earth(walk(30.0))
        positions[3] = GeoPosition(50.01, 8.02, None)
        positions[9] = None
        scale = geo_scale(walk(30.0) / 12, positions)
        assert scale is not None and scale.metres_per_unit == pytest.approx(12, rel=0.01)

    @pytest.mark.parametrize("extent", [0.5, 3.0])
    def test_a_walk_around_a_toy_is_less_than_the_error_of_gps(self, extent: float) -> None:
        places = walk(extent)
        noise = np.random.default_rng(1).normal(size=places.shape) * 4
        assert geo_scale(places, on_earth(places + noise)) is None

    def test_one_position_for_all(self) -> None:
        assert geo_scale(walk(30.0), [GeoPosition(50.0, 8.0, None)] * 20) is None

    def test_a_placed_world_is_in_metres_with_x_east(self) -> None:
        places = walk(30.0)
        poses = np.tile(np.eye(4), (20, 1, 1))
        poses[:, :3, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # all look north, level
        poses[:, :3, 3] = places / 12
        placement = placement_of(poses, np.random.default_rng(0).normal(size=(50, 3)), [None] * 20, on_earth(places))
        placed = np.stack([placement.pose(pose) for pose in poses])
        np.testing.assert_allclose(placed[:, :3, :3], poses[:, :3, :3], rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            np.diff(placed[:, :3, 3], axis=0), np.diff(places, axis=0), rtol=0, atol=1e-4
        )  # the Earth is not flat
        assert placement.scale_source is not None and "GPS positions of 20 photos (± " in placement.scale_source
