# SPDX-License-Identifier: Apache-2.0
"""Sensor data in a photo's tags: GPS position, and the direction of gravity."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

UpVector = tuple[float, float, float]
"""Unit vector that points up, in the axes of a camera's sensor (x right, y up, z backward in the stored picture)."""

APPLE = b"Apple iOS\0"
APPLE_HEADER = 14
"""Bytes of Apple's MakerNote before its directory: name, version, byte order."""
APPLE_ACCELERATION = 8
"""Its tag for the accelerometer's measurement in units of g."""
SIGNED_FRACTION = 10
"""TIFF's type of that tag."""
RESTING = (0.8, 1.2)
"""Range in units of g that an accelerometer measures while the phone is held still, when it measures gravity."""
MAX_GIMBAL_ROLL = 10.0
"""Largest plausible roll in degrees: gimbals keep the horizon level, and larger values follow no common convention."""
DAMAGED = (AttributeError, EOFError, KeyError, OSError, OverflowError, SyntaxError, TypeError, ValueError, struct.error)
"""Exceptions from reading damaged tags."""
DAMAGED_NUMBERS = (IndexError, KeyError, OverflowError, TypeError, ValueError, ZeroDivisionError)


@dataclass(frozen=True)
class GeoPosition:
    """Where on Earth a photo was taken."""

    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""
    altitude: float | None
    """Metres above sea level; None if unknown."""


def position_of(image: Image.Image) -> GeoPosition | None:
    """The position in EXIF's GPS tags; None if they are missing or invalid."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    except DAMAGED:
        return None
    gps = ExifTags.GPS
    latitude = _degrees(tags, gps.GPSLatitude, gps.GPSLatitudeRef, "S")
    longitude = _degrees(tags, gps.GPSLongitude, gps.GPSLongitudeRef, "W")
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None
    if latitude == longitude == 0:  # written by cameras without a GPS fix
        return None
    return GeoPosition(latitude, longitude, _altitude(tags))


def _degrees(tags: dict[int, Any], tag: int, reference: int, negative: str) -> float | None:
    try:
        degrees, minutes, seconds = (float(number) for number in tags[tag])
        value = degrees + minutes / 60 + seconds / 3600
        sign = -1 if str(tags.get(reference, "")).strip("\0 ").upper() == negative else 1
    except DAMAGED_NUMBERS:
        return None
    return sign * value if math.isfinite(value) else None


def _altitude(tags: dict[int, Any]) -> float | None:
    try:
        altitude = float(tags[ExifTags.GPS.GPSAltitude])
    except DAMAGED_NUMBERS:
        return None
    is_below_sea = tags.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\1")
    return (-altitude if is_below_sea else altitude) if math.isfinite(altitude) else None


def sensed_up(image: Image.Image) -> UpVector | None:
    """Up by an iPhone's accelerometer or a DJI drone's gimbal; None if the photo has neither."""
    return _of_iphone(image) or _of_gimbal(image)


def _of_iphone(image: Image.Image) -> UpVector | None:
    """Up from Apple's MakerNote, whose axes are the phone's: x right, y to its top, z out of its screen."""
    try:
        note = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.MakerNote, b"")
        if not isinstance(note, bytes) or not note.startswith(APPLE):
            return None
        x, y, z = _acceleration(note)
    except (*DAMAGED, ZeroDivisionError):
        return None
    measured = math.hypot(x, y, z)
    if not RESTING[0] < measured < RESTING[1]:
        return None
    # At rest, the measured vector points down. The sensor's picture has its right side at the phone's bottom.
    return (y / measured, -x / measured, -z / measured)


def _acceleration(note: bytes) -> list[float]:
    """The values of the acceleration tag, which are fractions; as in TIFF, offsets count from the note's beginning."""
    order = {b"MM": ">", b"II": "<"}[note[APPLE_HEADER - 2 : APPLE_HEADER]]
    (entries,) = struct.unpack_from(f"{order}H", note, APPLE_HEADER)
    for i in range(entries):
        tag, kind, count, offset = struct.unpack_from(f"{order}HHII", note, APPLE_HEADER + 2 + 12 * i)
        if (tag, kind, count) == (APPLE_ACCELERATION, SIGNED_FRACTION, 3):
            numbers = struct.unpack_from(f"{order}6i", note, offset)
            return [numerator / denominator for numerator, denominator in zip(numbers[::2], numbers[1::2], strict=True)]
    raise KeyError(APPLE_ACCELERATION)


def _of_gimbal(image: Image.Image) -> UpVector | None:
    """Up from the XMP tags of DJI's drones: the gimbal's pitch (negative: down), with a level horizon."""
    xmp = image.info.get("xmp", b"")
    text = xmp if isinstance(xmp, bytes) else str(xmp).encode()
    pitch, roll = (_gimbal_degrees(text, name) for name in (b"Pitch", b"Roll"))
    if pitch is None or roll is None or abs(roll) > MAX_GIMBAL_ROLL or abs(pitch) > 91:
        return None
    return (0.0, math.cos(math.radians(pitch)), -math.sin(math.radians(pitch)))


def _gimbal_degrees(xmp: bytes, axis: bytes) -> float | None:
    found = re.search(rb"drone-dji:Gimbal" + axis + rb"Degree\s*(?:=\s*[\"']|>)\s*([+-]?\d{1,3}(?:\.\d{1,9})?)", xmp)
    return None if found is None else float(found[1])
