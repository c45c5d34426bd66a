# SPDX-License-Identifier: Apache-2.0
"""Reading the files of a COLMAP model, text and binary: https://colmap.github.io/format.html.

Numbers are double precision. Every count in a binary file is compared with the file's size before memory is allocated.
The 2D points of photos and the tracks of 3D points are skipped, as nothing needs them.
"""

from __future__ import annotations

import codecs
import mmap
import struct
from collections.abc import Generator, Iterator
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
"""The camera models of COLMAP 4.2 in the order of their ids, and their numbers of parameters."""
COUNT = struct.Struct("<Q")
CAMERA = struct.Struct("<iiQQ")
"""Id, model, width and height."""
IMAGE = struct.Struct("<i7di")
"""Id, quaternion wxyz and translation from world to camera, id of the camera."""
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
OBSERVATION_BYTES, TRACK_BYTES = 24, 8
"""Sizes of a 2D point (x, y and its 3D point), and of an element of a track (photo and 2D point)."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""First bytes of text files that Windows PowerShell has rewritten."""
CHUNK = 1 << 16
"""Rows gathered at a time: their indices take eight times as much memory as the rows."""


@dataclass(frozen=True)
class ModelCamera:
    """A camera of the model."""

    model: str
    """COLMAP's name of the camera model."""
    width: int
    height: int
    parameters: tuple[float, ...]
    """In the order that the camera model defines. The origin is the corner of the upper left pixel."""


@dataclass(frozen=True)
class ModelImage:
    """A registered photo of the model."""

    name: str
    """The photo's path, relative to the folder that COLMAP was given."""
    camera: int
    """Id of its camera."""
    world_to_camera: FloatArray
    """`[3, 4]`, OpenCV camera axes; NaN if the file has a zero or non-finite quaternion."""
    quaternion_length: float
    """Norm of the quaternion in the file. If it is not 1, it holds a scale, which `world_to_camera` ignores."""

    @property
    def camera_to_world(self) -> FloatArray:
        """`[3, 4]`, OpenGL camera axes."""
        rotation, translation = self.world_to_camera[:, :3], self.world_to_camera[:, 3]
        return np.column_stack([rotation.T * [1.0, -1.0, -1.0], -rotation.T @ translation])


def read_cameras(model: Path) -> dict[int, ModelCamera]:
    """Reads the cameras of a model by id, from `cameras.txt` or else from `cameras.bin`.

    Raises:
        InputError: The file is missing, damaged or cut off, or has an unknown camera model.
    """
    if (model / "cameras.txt").is_file():
        with _text(model / "cameras.txt") as lines:
            return dict(map(_camera_of_line, lines))
    with _binary(model / "cameras.bin") as file:
        return dict(_camera_of(file) for _ in range(file.count(CAMERA.size, "cameras")))


def read_images(model: Path) -> list[ModelImage]:
    """Reads the registered photos of a model, from `images.txt` or else from `images.bin`.

    Raises:
        InputError: The file is missing, damaged or cut off.
    """
    if (model / "cameras.txt").is_file():  # both files must be of the same kind
        with _text(model / "images.txt", blank_lines=True) as lines:
            images = []
            has_2d_points = True  # whether the line with the previous photo's 2D points, perhaps blank, has been read
            for line in lines:
                # Some programs omit that line.
                if not has_2d_points and not _is_image(line):
                    has_2d_points = True
                elif line:
                    images.append(_image_of_line(line))
                    has_2d_points = False
            return images
    with _binary(model / "images.bin") as file:
        return [_image_of(file) for _ in range(file.count(IMAGE.size, "photos"))]


def count_images(model: Path) -> int:
    """The number of registered photos of a model; 0 if it cannot be read."""
    try:
        if (model / "cameras.txt").is_file():
            return len(read_images(model))
        with _binary(model / "images.bin") as file:
            return file.count(IMAGE.size, "photos")
    except InputError:
        return 0


def read_points(model: Path) -> SeedPoints | None:
    """Reads the 3D points of a model, from `points3D.bin` or else from `points3D.txt`; None if it has neither file.

    Raises:
        InputError: The file is damaged or cut off.
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
        raise ValueError(f"{line[:50]!r} is not a camera")
    number, name, width, height, *parameters = fields
    camera = ModelCamera(name, _whole(width), _whole(height), tuple(map(float, parameters)))
    wanted = PARAMETERS.get(name, len(parameters))
    if len(parameters) != wanted:
        raise ValueError(f"camera {number} has {len(parameters)} parameters, but {name} has {wanted}")
    return int(number), camera


def _whole(number: str) -> int:
    """A number of pixels, which some programs write as `1920.0`."""
    value = float(number)
    if not value.is_integer():  # also NaN and infinity
        raise ValueError(f"{number!r} is not a whole number of pixels")
    return int(value)


def _image_of_line(line: str) -> ModelImage:
    fields = line.split(maxsplit=9)  # names may have spaces in them
    if len(fields) < 10:
        raise ValueError(f"{line[:50]!r} is not a photo")
    _, *pose, camera, name = fields
    return _model_image([float(value) for value in pose], int(camera), name)


def _is_image(line: str) -> bool:
    """Whether a line describes a photo rather than 2D points, which are repeated triples of x, y and an id."""
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
        raise ValueError(f"{line[:50]!r} is not a point")
    return numbers


def _camera_of(file: _Binary) -> tuple[int, ModelCamera]:
    number, model, width, height = file.take(CAMERA)
    if not 0 <= model < len(PARAMETERS):
        raise ValueError(f"camera {number} has the unknown camera model {model}")
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
    """Matrix `[3, 4]` of a quaternion wxyz of any length and a translation."""
    w, x, y, z, *translation = pose
    if not np.isfinite([w, x, y, z]).all() or not any([w, x, y, z]):
        return np.full((3, 4), np.nan)
    return np.column_stack([Rotation.from_quat([x, y, z, w]).as_matrix(), translation])


@contextmanager
def _reading(path: Path) -> Generator[Path, None, None]:
    """Converts errors from damaged files to an InputError."""
    try:
        yield require_regular(path)
    except (IndexError, MemoryError, OSError, OverflowError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); export the COLMAP model again") from error


@contextmanager
def _text(path: Path, blank_lines: bool = False) -> Generator[Iterator[str], None, None]:
    """Yields the stripped lines of a text file, without comments."""
    with _reading(path):
        with path.open("rb") as start:
            is_utf16 = start.read(2) in UTF16
        with path.open(encoding="utf-16" if is_utf16 else "utf-8-sig", errors="surrogateescape") as file:
            stripped = (_repaired(line).strip() for line in file)
            yield (line for line in stripped if not line.startswith("#") and (line or blank_lines))


def _repaired(text: str) -> str:
    """Text that was decoded with "surrogateescape", its undecodable bytes read in Western Europe's code page.

    Windows programs write names that are not ASCII in the computer's code page.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return text


@contextmanager
def _binary(path: Path) -> Generator[_Binary, None, None]:
    with _reading(path), path.open("rb") as file:
        if path.stat().st_size == 0:  # cannot be mapped
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            yield _Binary(path, contents)


class _Binary:
    """A binary file that is read from front to back. Reading past its end raises InputError."""

    def __init__(self, path: Path, contents: mmap.mmap):
        self.contents = contents
        self._path = path
        self._at = 0

    def take(self, layout: struct.Struct) -> tuple:
        """Reads the next numbers."""
        return layout.unpack_from(self.contents, self.skip(layout.size))

    def skip(self, size: int) -> int:
        """Skips `size` bytes; returns their offset."""
        at = self._at
        check_claim(size, len(self.contents) - at, f"{self._path} cannot be read: what comes at byte {at}")
        self._at += size
        return at

    def count(self, each: int, what: str) -> int:
        """Reads the next number, which counts items of at least `each` bytes."""
        (number,) = self.take(COUNT)
        available = len(self.contents) - self._at
        check_claim(each * number, available, f"{self._path} cannot be read: its {number:,} {what}")
        return number

    def rows(self, layout: np.dtype, each: int, what: str) -> np.ndarray:
        """Reads a table preceded by its number of rows; each row is followed by `each` bytes times its last field.

        There may be millions of rows, hence a separate loop that only finds their offsets.
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
        """Reads the next NUL-terminated string."""
        end = self.contents.find(b"\0", self._at)
        if end < 0:
            raise ValueError("it is cut off")
        start = self.skip(end + 1 - self._at)
        return _repaired(self.contents[start:end].decode("utf-8", "surrogateescape"))
