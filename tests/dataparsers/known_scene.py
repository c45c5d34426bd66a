# SPDX-License-Identifier: Apache-2.0
"""Cameras known in every detail, and where they see 3D points: what readers of posed formats are checked against."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.intrinsics import resolve_intrinsics
from img3d_dataparsers.posed_photos import PosedPhotos

FloatArray = npt.NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
"""Seeds of random numbers."""


@dataclass(frozen=True)
class KnownCamera:
    """A pinhole camera by the textbook: pixel = K (R x + t), axes right, down, forward, pixel centres at +0.5."""

    rotation: FloatArray
    translation: FloatArray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def centre(self) -> FloatArray:
        """The camera's position in the world `[3]`."""
        return -self.rotation.T @ self.translation

    @property
    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The directions right, down and forward in the world, `[3]` each."""
        right, down, forward = self.rotation
        return right, down, forward

    @property
    def opengl_to_world(self) -> FloatArray:
        """`[4, 4]` for camera axes right, up and back."""
        right, down, forward = self.axes
        matrix = np.eye(4)
        matrix[:3] = np.column_stack([right, -down, -forward, self.centre])
        return matrix

    def pixels(self, points: FloatArray) -> FloatArray:
        """Where it sees points `[P, 3]` of the world: `[P, 2]`."""
        x, y, z = self.rotation @ points.T + self.translation[:, None]
        assert (z > 0).all()
        return np.stack([self.fx * x / z + self.cx, self.fy * y / z + self.cy], axis=-1)


def points_of(rng: np.random.Generator) -> FloatArray:
    """Points `[20, 3]` around the origin, all within a distance of 1."""
    directions = rng.normal(size=(20, 3))
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True) * rng.uniform(0, 1, size=(20, 1))


def cameras_of(rng: np.random.Generator, count: int, square_pixels: bool = False) -> list[KnownCamera]:
    """Cameras that look at the origin from anywhere, upright or not, with the principal point off the middle."""
    cameras = []
    width, height = 64, 48
    fx = float(rng.uniform(40, 90))
    fy = fx if square_pixels else fx * float(rng.uniform(0.98, 1.02))
    for _ in range(count):
        forward, sideways = rng.normal(size=(2, 3))
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, sideways)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        centre = -forward * rng.uniform(2, 5)
        cameras.append(
            KnownCamera(
                rotation=rotation,
                translation=-rotation @ centre,
                fx=fx,
                fy=fy,
                cx=float(width / 2 + rng.uniform(-3, 3)),
                cy=float(height / 2 + rng.uniform(-3, 3)),
                width=width,
                height=height,
            )
        )
    return cameras


def write_photo(path: Path, width: int = 64, height: int = 48) -> None:
    """A grey photo, with the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 90, 90)).save(path)


def assert_cameras_see_the_points(
    posed: PosedPhotos, cameras: Mapping[str, KnownCamera], points: FloatArray, atol: float = 1e-9
) -> None:
    """Checks that the cameras as read see every point where the known ones do, in pixels of the photos as stored.

    Args:
        posed: what the reader returned.
        cameras: the known camera of each photo, by the photo's path relative to the data set's folder.
        points: points of the capture's world `[P, 3]`.
        atol: in pixels.
    """
    assert [frame.image_path for frame in posed.frames] == [posed.folder / name for name in cameras]
    in_frames = points @ posed.applied_transform[:, :3].T + posed.applied_transform[:, 3]
    in_frames = in_frames * posed.applied_scale
    for frame, camera in zip(posed.frames, cameras.values(), strict=True):
        with Image.open(frame.image_path) as image:
            width, height = image.size
        k = resolve_intrinsics(frame.intrinsics, width, height, frame.name)
        matrix = np.asarray(frame.camera_to_world, dtype=np.float64)
        x, y, z = matrix[:3, :3].T @ (in_frames - matrix[:3, 3]).T
        seen = np.stack([k.cx + k.fx * x / -z, k.cy - k.fy * y / -z], axis=-1)
        scale = [width / camera.width, height / camera.height]
        np.testing.assert_allclose(seen, camera.pixels(points) * scale, atol=atol, err_msg=frame.name)


@dataclass(frozen=True)
class PosedFormat:
    """A format that brings poses: how a test writes it, and how img3d recognises and reads it."""

    write: Callable[[Path, list[KnownCamera]], list[str]]
    """Makes a data set of these cameras in a folder; returns the photos' paths in it."""
    recognises: Callable[[Path], bool]
    read: Callable[[Path], PosedPhotos]

    def check_known_points(
        self, seed: int, prepare: Callable[[list[KnownCamera]], list[KnownCamera]] = list, square_pixels: bool = False
    ) -> None:
        """Checks that random cameras, written and read again, see random points where they should.

        Args:
            seed: of the random numbers.
            prepare: makes cameras such as the format can express.
            square_pixels: whether that takes square pixels.
        """
        rng = np.random.default_rng(seed)
        cameras = prepare(cameras_of(rng, 3, square_pixels))
        with tempfile.TemporaryDirectory() as name:
            photos = self.write(Path(name), cameras)
            assert self.recognises(Path(name))
            posed = self.read(Path(name))
            assert_cameras_see_the_points(posed, dict(zip(photos, cameras, strict=True)), points_of(rng))

    def error_of(self, folder: Path) -> str:
        """The one line that a damaged data set of this format gets."""
        assert self.recognises(folder)
        with pytest.raises(InputError) as caught:
            self.read(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)
