# SPDX-License-Identifier: Apache-2.0
"""A textured corner, photographed from cameras that are known: what seed points are checked against."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.posed_photos import FloatArray

NUM_PHOTOS = 10
WIDTH, HEIGHT, FOCAL = 240, 180, 225.0
LENSES = {
    "pinhole": {},
    "distorted": {"k1": -0.12, "k2": 0.02, "p1": 0.003, "p2": -0.002},
    "fisheye": {"camera_model": "OPENCV_FISHEYE", "k1": -0.02, "k2": 0.005},
}
PIXEL = 3.0 / FOCAL
"""What a pixel covers at the distance of the scene."""


def camera_to_world(i: int) -> FloatArray:
    """On an arc around the corner where floor and wall meet, OpenGL axes."""
    angle = np.radians(-90 + 5 * (i - NUM_PHOTOS / 2))
    origin = np.array([0.0, 0.6, 0.0]) + 3 * np.array([0.8 * np.cos(angle), 0.8 * np.sin(angle), 0.45 + 0.03 * (i % 3)])
    back = origin - [0.0, 0.6, 0.3]
    back /= np.linalg.norm(back)
    right = np.cross([0.1 * (i % 2), 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, origin], axis=1)
    return pose


def texture(seed: int) -> npt.NDArray[np.uint8]:
    """Blobs of all sizes, 1000 pixels for 4 units of length: what SIFT likes."""
    rng = np.random.default_rng(seed)
    octaves = [
        cv2.resize(rng.normal(size=(n, n, 3)), (1000, 1000), interpolation=cv2.INTER_CUBIC) for n in (30, 60, 120)
    ]
    return np.clip(128 + 45 * sum(octaves), 0, 255).astype(np.uint8)


FLOOR, WALL = texture(1), texture(2)


def look_up(picture: npt.NDArray[np.uint8], u: FloatArray, v: FloatArray) -> npt.NDArray[np.uint8]:
    """The texture at u, v in [-2, 2]."""
    x, y = (((w + 2) * 250 - 0.5).astype(np.float32) for w in (u, v))
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def photograph(
    pose: FloatArray, lens: dict[str, Any]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], FloatArray]:
    """A floor (z = 0) before a wall (y = 1), which pixels show the wall, and depths along the camera's axis."""
    return _photograph(pose.tobytes(), tuple(sorted(lens.items())))


@cache
def _photograph(
    pose_bytes: bytes, lens_items: tuple[tuple[str, Any], ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], FloatArray]:
    pose, lens = np.frombuffer(pose_bytes).reshape(4, 4), dict(lens_items)
    n = 2
    u, v = np.meshgrid((np.arange(n * WIDTH) + 0.5) / n, (np.arange(n * HEIGHT) + 0.5) / n)
    K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    pixels = np.stack([u, v], axis=-1).reshape(-1, 1, 2)
    k1, k2, p1, p2 = (lens.get(key, 0.0) for key in ("k1", "k2", "p1", "p2"))
    if "camera_model" in lens:
        straight = cv2.fisheye.undistortPoints(pixels, K, np.array([k1, k2, 0.0, 0.0]))
    else:
        straight = cv2.undistortPoints(pixels, K, np.array([k1, k2, p1, p2]))
    x, y = straight.reshape(n * HEIGHT, n * WIDTH, 2).transpose(2, 0, 1)
    directions = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    origin = pose[:3, 3]
    t_floor, t_wall = -origin[2] / directions[..., 2], (1 - origin[1]) / directions[..., 1]
    t_floor, t_wall = (np.where(t > 0, t, np.inf) for t in (t_floor, t_wall))
    on_wall = t_wall < t_floor
    depth = np.minimum(t_wall, t_floor)
    hit = origin + depth[..., None] * directions
    rgb = np.where(
        on_wall[..., None], look_up(WALL, hit[..., 0], hit[..., 2]), look_up(FLOOR, hit[..., 0], hit[..., 1])
    )
    small = rgb.reshape(HEIGHT, n, WIDTH, n, 3).mean(axis=(1, 3))
    middle = slice(n // 2, None, n)
    return np.round(small).astype(np.uint8), on_wall[middle, middle], depth[middle, middle]


def make_scene(folder: Path, lens: dict[str, Any]) -> Path:
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(NUM_PHOTOS):
        photo, _, _ = photograph(camera_to_world(i), lens)
        Image.fromarray(photo).save(folder / "images" / f"{i}.png")
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": camera_to_world(i).tolist()})
    meta = {"fl_x": FOCAL, "w": WIDTH, "h": HEIGHT, **lens, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def parse(data: Path, split: str = "train", **options: Any) -> DataparserOutputs:
    """What the parser makes of a folder, with triangulated seed points only: stereo's have tests of their own."""
    options = {"seed_points": "triangulated", **options}
    return Img3dPhotosDataParserConfig(data=data, **options).setup().get_dataparser_outputs(split)


def points_of(data: Path, **options: Any) -> tuple[FloatArray, FloatArray]:
    """Seed points in the coordinates of transforms.json, and their colours."""
    outputs = parse(data, **options)
    xyz = outputs.metadata["points3D_xyz"].double().numpy() / outputs.dataparser_scale
    transform = outputs.dataparser_transform.double().numpy()
    return (xyz - transform[:, 3]) @ transform[:, :3], outputs.metadata["points3D_rgb"].double().numpy()
