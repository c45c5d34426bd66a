# SPDX-License-Identifier: Apache-2.0
"""The files of a COLMAP model, text and binary, as they stand: https://colmap.github.io/format.html.

Numbers are double precision. Every count in a binary file is compared with the bytes that are there before anything is
read for it. The 2D points of photos and the tracks of 3D points are skipped: nothing here needs them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from img3d_base.errors import InputError
from img3d_base.foreign_files import check_claim, require_regular
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints

PARAMETERS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
    "RAD_TAN_THIN_PRISM_FISHEYE": 16,
    "SIMPLE_DIVISION": 4,
    "DIVISION": 5,
    "SIMPLE_FISHEYE": 3,
    "FISHEYE": 4,
    "EUCM": 6,
    "EQUIRECTANGULAR": 2,
}
"""The camera models of COLMAP 4.2 in the order of their numbers, and how many parameters each has."""
COUNT = struct.Struct("<Q")
CAMERA = struct.Struct("<iiQQ")
"""Number, model, width and height."""
IMAGE = struct.Struct("<i7di")
"""Number, quaternion (w first) and translation from the world to the camera, number of the camera."""
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
OBSERVATION_BYTES, TRACK_BYTES = 24, 8
"""Of a 2D point (x, y and its 3D point), and of an element of a track (photo and 2D point)."""

CHUNK = 1 << 16
"""Rows that are gathered at a time: their indices take eight times as much memory as they do."""


@dataclass(frozen=True)
class ModelCamera:
    """A camera of the model."""

    model: str
    """COLMAP's name of its camera model."""
    width: int
    height: int
    parameters: tuple[float, ...]
    """In the order that the camera model defines; pixels are counted from the corner of the upper left one."""


@dataclass(frozen=True)
class ModelImage:
    """A registered photo of the model."""

    name: str
    """The photo's path, relative to the folder that COLMAP was given."""
    camera: int
    """Number of its camera."""
    world_to_camera: FloatArray
    """`[3, 4]`, OpenCV camera axes; NaN where the file has a quaternion of zeros."""
    quaternion_length: float
    """Of what the file has for a rotation: 1, or it carries a scale, which is left out of `world_to_camera`."""


def read_cameras(model: Path) -> dict[int, ModelCamera]:
    """The cameras of a model by their number, of `cameras.txt`, or else of `cameras.bin`.

    Raises:
        InputError: the file is missing, damaged or cut off, or has a camera model of another COLMAP.
    """
    if (model / "cameras.txt").is_file():
        with _text(model / "cameras.txt") as lines:
            return dict(map(_camera_of_line, lines))
    with _binary(model / "cameras.bin") as file:
        return dict(_camera_of(file) for _ in range(file.count(CAMERA.size, "cameras")))


def read_images(model: Path) -> list[ModelImage]:
    """The registered photos of a model, of `images.txt`, or else of `images.bin`.

    Raises:
        InputError: the file is missing, damaged or cut off.
    """
    if (model / "cameras.txt").is_file():  # the two belong together
        with _text(model / "images.txt", blank_lines=True) as lines:
            images = []
            has_2d_points = True  # of the photo before; a blank line where there are none
            for line in lines:
                # Some programs leave that line out.
                if not has_2d_points and not _is_image(line):
                    has_2d_points = True
                elif line:
                    images.append(_image_of_line(line))
                    has_2d_points = False
            return images
    with _binary(model / "images.bin") as file:
        return [_image_of(file) for _ in range(file.count(IMAGE.size, "photos"))]


def count_images(model: Path) -> int:
    """How many registered photos a model has; 0 if it cannot be read."""
    try:
        if (model / "cameras.txt").is_file():
            return len(read_images(model))
        with _binary(model / "images.bin") as file:
            return file.count(IMAGE.size, "photos")
    except InputError:
        return 0


def read_points(model: Path) -> SeedPoints | None:
    """The 3D points of a model, of `points3D.bin`, or else of `points3D.txt`; None if it has neither file.

    Raises:
        InputError: the file is damaged or cut off.
    """
    if (model / "points3D.bin").is_file():
        with _binary(model / "points3D.bin") as file:
            rows = file.rows(POINT, TRACK_BYTES, "points")
        return rows["xyz"].copy(), rows["rgb"].copy()
    if (model / "points3D.txt").is_file():
        with _text(model / "points3D.txt") as lines:
            numbers = np.array([_position_and_colour(line) for line in lines]).reshape(-1, 6)
        return numbers[:, :3], np.nan_to_num(numbers[:, 3:]).clip(0, 255).astype(np.uint8)
    return None


def _camera_of_line(line: str) -> tuple[int, ModelCamera]:
    fields = line.split()
    if len(fields) < 4:
        raise ValueError(f"{line[:50]!r} is no camera")
    number, name, width, height, *parameters = fields
    camera = ModelCamera(name, int(width), int(height), tuple(map(float, parameters)))
    wanted = PARAMETERS.get(name, len(parameters))
    if len(parameters) != wanted:
        raise ValueError(f"camera {number} has {len(parameters)} parameters, and {name} has {wanted}")
    return int(number), camera


def _image_of_line(line: str) -> ModelImage:
    fields = line.split(maxsplit=9)  # names may have spaces in them
    if len(fields) < 10:
        raise ValueError(f"{line[:50]!r} is no photo")
    _, *pose, camera, name = fields
    return _model_image([float(value) for value in pose], int(camera), name)


def _is_image(line: str) -> bool:
    """Whether a line is a photo, and not 2D points: x, y and a number, any number of times."""
    fields = line.split(maxsplit=9)
    if len(fields) < 10:
        return False
    *others, last = fields[9].rsplit(maxsplit=1)
    try:
        float(last)
    except ValueError:
        return True
    return not others  # a photo whose name is a number


def _position_and_colour(line: str) -> list[float]:
    numbers = [float(value) for value in line.split(maxsplit=7)[1:7]]
    if len(numbers) < 6:
        raise ValueError(f"{line[:50]!r} is no point")
    return numbers


def _camera_of(file: _Binary) -> tuple[int, ModelCamera]:
    number, model, width, height = file.take(CAMERA)
    if not 0 <= model < len(PARAMETERS):
        raise ValueError(f"camera {number} is of camera model {model}, which COLMAP 4.2 does not have")
    name = list(PARAMETERS)[model]
    return number, ModelCamera(name, width, height, file.take(struct.Struct(f"<{PARAMETERS[name]}d")))


def _image_of(file: _Binary) -> ModelImage:
    _, *pose, camera = file.take(IMAGE)
    name = file.text()
    file.skip(OBSERVATION_BYTES * file.count(OBSERVATION_BYTES, "2D points"))
    return _model_image(pose, camera, name)


def _model_image(pose: list[float], camera: int, name: str) -> ModelImage:
    return ModelImage(name, camera, _world_to_camera(pose), float(np.linalg.norm(pose[:4])))


def _world_to_camera(pose: list[float]) -> FloatArray:
    """`[3, 4]` of a quaternion (w first), whose length does not matter, and a translation."""
    w, x, y, z, *translation = pose
    if not np.isfinite([w, x, y, z]).all() or not any([w, x, y, z]):
        return np.full((3, 4), np.nan)
    return np.column_stack([Rotation.from_quat([x, y, z, w]).as_matrix(), translation])


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Turns whatever a damaged file leads to into one line."""
    try:
        yield require_regular(path)
    except (IndexError, MemoryError, OSError, OverflowError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); export the COLMAP model again") from error


@contextmanager
def _text(path: Path, blank_lines: bool = False) -> Iterator[Iterator[str]]:
    """The lines of a text file, stripped, without comments."""
    with _reading(path), path.open(encoding="utf-8-sig") as file:
        stripped = (line.strip() for line in file)
        yield (line for line in stripped if not line.startswith("#") and (line or blank_lines))


@contextmanager
def _binary(path: Path) -> Iterator[_Binary]:
    with _reading(path), path.open("rb") as file:
        if path.stat().st_size == 0:  # which cannot be mapped
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            yield _Binary(path, contents)


class _Binary:
    """A binary file that is read from front to back. What exceeds it raises InputError."""

    def __init__(self, path: Path, contents: mmap.mmap):
        self.contents = contents
        self._path = path
        self._at = 0

    def take(self, layout: struct.Struct) -> tuple:
        """The next numbers."""
        return layout.unpack_from(self.contents, self.skip(layout.size))

    def skip(self, size: int) -> int:
        """Where the next `size` bytes begin; they are passed over."""
        at = self._at
        check_claim(size, len(self.contents) - at, f"{self._path} cannot be read: what comes at byte {at}")
        self._at += size
        return at

    def count(self, each: int, what: str) -> int:
        """The next number, which counts what takes at least `each` bytes."""
        (number,) = self.take(COUNT)
        available = len(self.contents) - self._at
        check_claim(each * number, available, f"{self._path} cannot be read: its {number:,} {what}")
        return number

    def rows(self, layout: np.dtype, each: int, what: str) -> np.ndarray:
        """Rows of a table that is preceded by their number; `each` bytes follow a row as often as its last field says.

        There may be millions, hence a loop of its own that does nothing but find where each begins.
        """
        number = self.count(layout.itemsize, what)
        starts = np.empty(number, dtype=np.int64)
        at, last = self._at, len(self.contents) - layout.itemsize
        for i in range(number):
            if at > last:
                break
            starts[i] = at
            at += layout.itemsize
            at += each * COUNT.unpack_from(self.contents, at - COUNT.size)[0]
        else:
            last = len(self.contents)
        if at > last:
            raise ValueError(f"it is cut off, or one of its {number:,} {what} is damaged")
        self._at = at
        rows = np.empty((number, layout.itemsize), dtype=np.uint8)
        every_byte = np.frombuffer(self.contents, dtype=np.uint8)
        for first in range(0, number, CHUNK):
            chunk = slice(first, first + CHUNK)
            rows[chunk] = every_byte[starts[chunk, None] + np.arange(layout.itemsize)]
        return rows.view(layout)[:, 0]

    def text(self) -> str:
        """The next text, which ends with a NUL."""
        end = self.contents.find(b"\0", self._at)
        if end < 0:
            raise ValueError("it is cut off")
        start = self.skip(end + 1 - self._at)
        return self.contents[start:end].decode("utf-8")
