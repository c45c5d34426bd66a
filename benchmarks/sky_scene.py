# SPDX-License-Identifier: Apache-2.0
"""A small town under a sky with clouds: photos with exact cameras and depths, rendered from CC0 models.

Cameras stand around the town at eye level, so that a third of each photo is sky and hills close the horizon.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from img3d_assets.mesh_files import read_mesh
from img3d_kernels.mesh_rendering import MeshScene

NUM_PHOTOS = 40
SIZE = (480, 320)
FOCAL_LENGTH = 380.0
"""In pixels."""
SKY_DEPTH = 60.0
"""What counts as the sky's depth: a little more than that of the farthest hill."""
SUN = np.array([0.5, 0.3, 0.8]) / np.linalg.norm([0.5, 0.3, 0.8])
SEED = 3

Floats = npt.NDArray[np.float64]
Parts = tuple[Floats, npt.NDArray[np.int64], Floats]
"""Vertices `[V, 3]` (z up), faces `[F, 3]`, colours `[V, 3]` in [0, 1]."""


class Noise:
    """Smooth noise in [-1, 1]: plane waves of random directions, finer ones weaker."""

    def __init__(self, rng: np.random.Generator, base_frequency: float, octaves: int = 5) -> None:
        frequencies = base_frequency * 2.0 ** np.repeat(np.arange(octaves), 8)
        directions = rng.normal(size=(len(frequencies), 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._waves = directions * frequencies[:, None]
        self._phases = rng.uniform(0, 2 * np.pi, len(frequencies))
        self._weights = base_frequency / frequencies
        self._weights /= np.sqrt((self._weights**2).sum())

    def __call__(self, points: Floats) -> Floats:
        """Values at points `[..., 3]`."""
        return np.tanh(np.sin(points @ self._waves.T + self._phases) @ self._weights)


def make_sky_scene(objects: Path, folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Writes photos and transforms.json into a new folder.

    Args:
        objects: The folder of CC0 models.
        folder: Must not exist.

    Returns:
        The depth of each photo's pixels along the camera's axis, by the photo's name.
    """
    rng = np.random.default_rng(SEED)
    vertices, faces, colors = _joined([*_town(objects, rng), _ground(rng), _hills(rng)])
    scene = MeshScene(*(torch.from_numpy(a) for a in (vertices.astype(np.float32), faces, colors.astype(np.float32))))
    texture, clouds = Noise(rng, 3.0), Noise(rng, 4.0)
    width, height = SIZE
    K = torch.tensor([[FOCAL_LENGTH, 0, width / 2], [0, FOCAL_LENGTH, height / 2], [0, 0, 1]])
    (folder / "images").mkdir(parents=True)
    frames, depths = [], {}
    for i in range(NUM_PHOTOS):
        pose = _eye_level_pose(2 * np.pi * i / NUM_PHOTOS, rng)
        rgb, depth, hit, normals = (
            a.double().numpy() for a in scene.render(torch.from_numpy(pose).float(), K, width, height, 3)
        )
        columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays = np.stack([(columns - width / 2), -(rows - height / 2), np.full(columns.shape, -FOCAL_LENGTH)], -1)
        rays = rays / FOCAL_LENGTH @ pose[:, :3].T
        surface = rgb * (0.55 + 0.45 * (normals @ SUN).clip(0))[..., None]
        surface *= 1 + 0.25 * texture(pose[:, 3] + depth * rays)[..., None]
        picture = surface + (1 - hit) * _sky(rays / np.linalg.norm(rays, axis=-1, keepdims=True), clouds)
        name = f"{i:03d}.png"
        cv2.imwrite(str(folder / "images" / name), (255 * picture.clip(0, 1)).round().astype(np.uint8)[..., ::-1])
        depths[name] = np.where(hit[..., 0] > 0.5, depth[..., 0], SKY_DEPTH).astype(np.float32)
        frames.append({"file_path": f"images/{name}", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]})
    camera = {"w": width, "h": height, "fl_x": FOCAL_LENGTH, "fl_y": FOCAL_LENGTH, "cx": width / 2, "cy": height / 2}
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": frames}))
    return depths


def _sky(directions: Floats, clouds: Noise) -> Floats:
    """Colours of the sky in unit directions `[..., 3]`: pale at the horizon, clouds, a glow around the sun."""
    height = directions[..., 2:].clip(0)
    blue = (1 - height) ** 3 * [0.80, 0.86, 0.92] + (1 - (1 - height) ** 3) * [0.22, 0.42, 0.80]
    on_layer = directions / (height + 0.25)  # clouds lie in a layer: smaller towards the horizon
    cover = (0.5 + 0.9 * clouds(on_layer)).clip(0, 1)[..., None] * (height / (height + 0.05))
    glow = np.exp(-((1 - directions @ SUN) / 0.05))[..., None]
    return (blue * (1 - 0.8 * cover) + 0.8 * cover * [0.96, 0.95, 0.94] + 0.5 * glow).clip(0, 1)


def _eye_level_pose(angle: float, rng: np.random.Generator) -> Floats:
    """Camera-to-world `[3, 4]`, OpenGL axes, of a camera outside the town that looks at its middle."""
    position = np.array([9 * np.cos(angle), 9 * np.sin(angle), 0]) * rng.uniform(0.85, 1.15)
    position[2] = rng.uniform(0.7, 1.3)
    target = np.array([*rng.uniform(-1.5, 1.5, 2), rng.uniform(1.2, 2.0)])
    backward = position - target
    backward /= np.linalg.norm(backward)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    return np.column_stack([right, np.cross(backward, right), backward, position])


def _town(objects: Path, rng: np.random.Generator) -> list[Parts]:
    """Buildings on a grid, trees between them."""
    names = [f"kk_city__building_{letter}_withoutBase" for letter in "ABCDEFGH"]
    trees = ["k2_nature__tree_default", "k2_nature__tree_pineTallA", "k2_nature__tree_oak", "k2_nature__tree_fat"]
    parts = []
    for i, (x, y) in enumerate((x, y) for x in (-3, 0, 3) for y in (-3, 0, 3)):
        offset = rng.uniform(-0.5, 0.5, 2)
        parts.append(_placed(objects / f"{names[i % len(names)]}.glb", (x + offset[0], y + offset[1]), rng, 1.5, 2.2))
    for _ in range(24):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(1.2, 6)
        place = (radius * np.cos(angle), radius * np.sin(angle))
        parts.append(_placed(objects / f"{trees[rng.integers(len(trees))]}.glb", place, rng, 0.5, 0.9))
    return parts


def _placed(path: Path, place: tuple[float, float], rng: np.random.Generator, least: float, most: float) -> Parts:
    """A model (y up) that stands on the ground at this place, turned and scaled at random."""
    mesh, _ = read_mesh(path)
    angle, scale = rng.uniform(0, 2 * np.pi), rng.uniform(least, most)
    x, y, z = np.asarray(mesh.vertices, dtype=np.float64).T * scale
    vertices = np.stack(
        [
            np.cos(angle) * x + np.sin(angle) * z + place[0],
            np.sin(angle) * x - np.cos(angle) * z + place[1],
            y - y.min(),
        ],
        axis=1,
    )
    return vertices, np.asarray(mesh.faces, dtype=np.int64), np.asarray(mesh.colors, dtype=np.float64)


def _ground(rng: np.random.Generator) -> Parts:
    """Grass and earth, 80 wide."""
    noise = Noise(rng, 0.5)

    def surface(u: Floats, v: Floats) -> tuple[Floats, Floats]:
        points = np.stack([80 * (u - 0.5), 80 * (v - 0.5), np.zeros_like(u)], axis=-1)
        share = 0.5 + 0.5 * noise(points)[..., None]
        return points, share * [0.35, 0.48, 0.22] + (1 - share) * [0.55, 0.47, 0.35]

    return _grid(surface, 160, 160)


def _hills(rng: np.random.Generator) -> Parts:
    """A ring of hills from 30 to 50 away."""
    noise = Noise(rng, 0.12)

    def surface(u: Floats, v: Floats) -> tuple[Floats, Floats]:
        angle, radius = 2 * np.pi * u, 30 + 20 * v
        flat = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros_like(u)], axis=-1)
        points = flat + (4 + 2 * noise(flat))[..., None] * v[..., None] * [0, 0, 1]
        return points, (0.8 + 0.3 * noise(4 * flat))[..., None] * [0.30, 0.42, 0.32]

    return _grid(surface, 360, 12)


def _grid(surface: Any, columns: int, rows: int) -> Parts:
    """A surface over [0, 1]²."""
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    points, colors = surface(u, v)
    index = np.arange(u.size).reshape(u.shape)
    a, b, c, d = (corner.ravel() for corner in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    return points.reshape(-1, 3), faces, colors.reshape(-1, 3).clip(0, 1)


def _joined(parts: list[Parts]) -> Parts:
    """All parts as one mesh."""
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts[:-1])])
    return (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part[2] for part in parts]),
    )
