# SPDX-License-Identifier: Apache-2.0
"""A room with noise and spots on its walls and on a box in it, seen through any lens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial.transform import Rotation

from img3d_dataparsers.lenses.lens import Lens

FloatArray = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Rays = Callable[[FloatArray], FloatArray]
"""From pixels `[N, 2]` to rays `[N, 3]`, OpenCV axes; NaN where nothing is seen."""

ROOM = (np.array([-3.0, -2.5, 0.0]), np.array([3.0, 2.5, 2.6]))
"""The lowest and the highest corner in metres, z up."""
BOX = (np.array([-0.6, -0.5, 0.0]), np.array([0.5, 0.4, 0.9]))
TEXELS = 160
"""Per metre."""
SIDE = 512
"""Texels of a texture, which repeats."""


def _texture(seed: int) -> npt.NDArray[np.float32]:
    """Noise of all scales and spots of all sizes, `[SIDE, SIDE, 3]`."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), rng.uniform(90, 160, size=3), dtype=np.float32)
    for cell in (4, 8, 16, 32, 64, 128):
        coarse = rng.standard_normal((SIDE // cell, SIDE // cell, 1)).astype(np.float32)
        image += 4 * cell**0.4 * cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    for _ in range(400):
        x, y = rng.integers(0, SIDE, size=2).tolist()
        radius = float(np.exp(rng.uniform(np.log(2), np.log(24))))
        axes = (2 * radius, 2 * radius * rng.uniform(0.4, 1))
        colour = rng.uniform(10, 245, size=3).tolist()
        cv2.ellipse(image, ((x, y), axes, rng.uniform(0, 180)), colour, -1, cv2.LINE_AA)
    return image.clip(0, 255)


@cache
def _textures() -> list[npt.NDArray[np.float32]]:
    return [_texture(i) for i in range(12)]


class TexturedRoom:
    """The room; every wall has a texture of its own."""

    def __init__(self) -> None:
        self._textures = _textures()

    def colours(self, origin: FloatArray, rays: FloatArray) -> FloatArray:
        """What rays `[N, 3]` from a place in the room meet, `[N, 3]` in [0, 255]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            corners = [(np.stack(part) - origin)[:, None] / rays for part in (ROOM, BOX)]  # [2, N, 3]
        leaves = np.nan_to_num(corners[0].max(axis=0), nan=np.inf)
        distance, face = leaves.min(axis=1), leaves.argmin(axis=1)
        face = 2 * face + (np.take_along_axis(rays, face[:, None], axis=1)[:, 0] > 0)
        enter, leave = corners[1].min(axis=0), corners[1].max(axis=0)
        hits = (enter.max(axis=1) < leave.min(axis=1)) & (enter.max(axis=1) > 0)
        axis = enter.argmax(axis=1)
        on_box = 6 + 2 * axis + (np.take_along_axis(rays, axis[:, None], axis=1)[:, 0] < 0)
        distance = np.where(hits, enter.max(axis=1), distance)
        face = np.where(hits, on_box, face)
        points = origin + distance[:, None] * rays
        colours = np.zeros((len(rays), 3))
        for i, texture in enumerate(self._textures):
            chosen = face == i
            u, v = (points[chosen][:, axis] * TEXELS % SIDE for axis in range(3) if axis != i // 2 % 3)
            if chosen.any():
                found = [
                    cv2.remap(
                        texture,
                        u[start : start + 30000, None].astype(np.float32),
                        v[start : start + 30000, None].astype(np.float32),
                        cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_WRAP,
                    )
                    for start in range(0, len(u), 30000)
                ]
                colours[chosen] = np.concatenate(found)[:, 0]
        return colours

    def picture(self, camera_to_world: FloatArray, size: tuple[int, int], rays_of: Rays, samples: int = 2) -> Picture:
        """What a camera sees, `[H, W, 3]`, black where its lens sees nothing.

        Args:
            camera_to_world: `[4, 4]`, OpenGL axes.
            size: Width and height.
            rays_of: The lens.
            samples: Rays per pixel along each side.
        """
        width, height = size
        steps = (np.arange(samples * width) + 0.5) / samples, (np.arange(samples * height) + 0.5) / samples
        x, y = np.meshgrid(*steps)
        rays = rays_of(np.stack([x.ravel(), y.ravel()], axis=1))
        seen = np.isfinite(rays).all(axis=1)
        turned = rays[seen] * [1, -1, -1] @ camera_to_world[:3, :3].T
        colours = np.zeros((len(rays), 3))
        colours[seen] = self.colours(camera_to_world[:3, 3], turned)
        image = colours.reshape(height, samples, width, samples, 3).mean(axis=(1, 3))
        return image.round().clip(0, 255).astype(np.uint8)


def panorama_rays(width: int, height: int) -> Rays:
    """The rays of a whole panorama by the textbook: longitude grows to the right, latitude upwards."""

    def rays_of(pixels: FloatArray) -> FloatArray:
        longitude = (pixels[:, 0] / width - 0.5) * 2 * np.pi
        latitude = (0.5 - pixels[:, 1] / height) * np.pi
        flat = np.cos(latitude)
        return np.stack([flat * np.sin(longitude), -np.sin(latitude), flat * np.cos(longitude)], axis=1)

    return rays_of


def fisheye_rays(focal: float, width: int, height: int, k1: float = 0.0, field_of_view: float = 360.0) -> Rays:
    """The rays of an equidistant fisheye with one coefficient in the middle of its picture."""

    def rays_of(pixels: FloatArray) -> FloatArray:
        x, y = (pixels - (width / 2, height / 2)).T / focal
        radius = np.hypot(x, y)
        angle = radius.copy()
        for _ in range(20):
            angle = radius / (1 + k1 * angle**2)
        scale = np.sin(angle) / np.maximum(radius, 1e-12)
        rays = np.stack([scale * x, scale * y, np.cos(angle)], axis=1, dtype=np.float64)
        rays[angle > np.radians(field_of_view / 2)] = np.nan
        return rays

    return rays_of


def perspective_rays(focal: float, width: int, height: int) -> Rays:
    """The rays of a pinhole camera in the middle of its picture."""

    def rays_of(pixels: FloatArray) -> FloatArray:
        x, y = (pixels - (width / 2, height / 2)).T / focal
        return np.stack([x, y, np.ones(len(x))], axis=1)

    return rays_of


def poses(count: int, seed: int = 0) -> list[FloatArray]:
    """Upright cameras `[4, 4]` (OpenGL axes) around the box, looking to all sides."""
    rng = np.random.default_rng(seed)
    result = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        pose = np.eye(4)
        yaw = angle + rng.uniform(-1, 1)
        tilt = np.radians(rng.uniform(-3, 3, size=2))
        upright = Rotation.from_euler("x", np.pi / 2)  # from y up to z up
        turn = Rotation.from_euler("zxy", [yaw, *tilt])
        pose[:3, :3] = (turn * upright).as_matrix()
        pose[:3, 3] = [1.9 * np.cos(angle), 1.6 * np.sin(angle), 1.3 + 0.25 * np.sin(3 * angle)]
        result.append(pose)
    return result


def write_pictures(
    folder: Path, cameras: Sequence[FloatArray], size: tuple[int, int], rays_of: Rays, samples: int = 2
) -> list[str]:
    """Writes `images/00.jpg` and so on; returns these names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    room = TexturedRoom()
    names = [f"images/{i:02}.jpg" for i in range(len(cameras))]
    for name, camera in zip(names, cameras, strict=True):
        Image.fromarray(room.picture(camera, size, rays_of, samples)).save(folder / name, quality=95, subsampling=0)
    return names


def write_transforms(folder: Path, names: Sequence[str], cameras: Sequence[FloatArray], **camera: object) -> None:
    """Writes transforms.json."""
    frames = [{"file_path": name, "transform_matrix": pose.tolist()} for name, pose in zip(names, cameras, strict=True)]
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))


def panorama_lens(width: int, height: int) -> Lens:
    """The lens of whole panoramas."""
    return Lens("EQUIRECTANGULAR", (width / 2, height, width / 2, height / 2), width, height)
