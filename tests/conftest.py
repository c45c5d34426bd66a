# SPDX-License-Identifier: Apache-2.0
"""Fixtures that every package's tests share: a tiny posed scene made on the fly, and the folder of real data sets."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch
import type_checks
from headless_chromium import NoChromiumError, headless_chromium
from hypothesis import HealthCheck, settings
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook
from PIL import Image
from type_checks import CHECKED

install_import_hook(list(CHECKED), f"{type_checks.__name__}.check")  # before anything of ours is imported

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# How fast an example is says nothing here: other jobs may run beside the tests (hang_limit.py looks after what hangs).
# The examples are the same in every run, so that a change is judged by itself; `--hypothesis-profile search` looks for
# new ones.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("img3d", settings.get_profile("search"), derandomize=True)
settings.load_profile("img3d")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What draws random numbers without a seed of its own gets the same ones in every run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end, workers have short ones left, and none waits for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


NUM_PHOTOS = 16
WIDTH, HEIGHT = 64, 48
FOCAL = 60.0
SUPERSAMPLING = 4

FloatArray = npt.NDArray[np.float64]


def ring_camera_to_world(angle: float, radius: float = 3.0, height: float = 1.4) -> FloatArray:
    """Camera on a ring around the z axis that looks at the point (0, 0, 0.3), OpenGL axes (x right, y up, z back).

    Args:
        angle: azimuth in radians.
        radius: distance from the z axis.
        height: z of the camera.

    Returns:
        camera_to_world `[4, 4]`.
    """
    origin = np.array([radius * np.cos(angle), radius * np.sin(angle), height])
    back = origin - np.array([0.0, 0.0, 0.3])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    camera_to_world = np.eye(4)
    camera_to_world[:3] = np.stack([right, np.cross(back, right), back, origin], axis=1)
    return camera_to_world


def shade(origins: FloatArray, directions: FloatArray) -> FloatArray:
    """Colour that each ray sees of a striped ball standing on a checkered square under a pale sky.

    Everything is matt and unlit (colour is a function of the surface point alone), so that photos from all sides
    agree exactly and a reconstruction has one right answer.

    Args:
        origins: ray origins `[..., 3]`.
        directions: ray directions `[..., 3]`, of any length.

    Returns:
        sRGB colours in [0, 1], `[..., 3]`.
    """
    rgb = np.broadcast_to([0.75, 0.85, 0.95], directions.shape).copy()

    with np.errstate(divide="ignore", invalid="ignore"):
        t_ground = -origins[..., 2] / directions[..., 2]
        ground = origins + t_ground[..., None] * directions
        on_ground = (t_ground > 0) & (np.abs(ground[..., :2]).max(axis=-1) < 1.5)
    checker = (np.floor(ground[..., 0] * 2) + np.floor(ground[..., 1] * 2)) % 2
    tiles = np.where(checker[..., None] > 0, [0.85, 0.8, 0.7], [0.2, 0.3, 0.25])
    tiles = tiles + 0.1 * np.sin(3 * ground[..., :1]) * [1.0, 0.0, -1.0]
    rgb[on_ground] = tiles[on_ground]

    centre, radius = np.array([0.0, 0.0, 0.5]), 0.5
    offset = origins - centre
    a = (directions**2).sum(-1)
    b = (directions * offset).sum(-1)
    discriminant = b**2 - a * ((offset**2).sum(-1) - radius**2)
    t_ball = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    on_ball = (discriminant > 0) & (t_ball > 0)
    normal = (offset + t_ball[..., None] * directions) / radius
    azimuth = np.arctan2(normal[..., 1], normal[..., 0])
    stripes = 0.5 + 0.4 * np.stack(
        [np.sin(4 * azimuth), np.sin(6 * normal[..., 2] + azimuth), np.cos(3 * azimuth - 4 * normal[..., 2])], axis=-1
    )
    rgb[on_ball] = stripes[on_ball]
    return np.clip(rgb, 0, 1)


def render_tiny_photo(camera_to_world: FloatArray) -> npt.NDArray[np.uint8]:
    """Ray-casts the tiny scene with pixel centres at +0.5 and area-averaged pixels.

    Args:
        camera_to_world: `[4, 4]`, OpenGL axes.

    Returns:
        uint8 picture `[HEIGHT, WIDTH, 3]`.
    """
    u, v = np.meshgrid(
        (np.arange(WIDTH * SUPERSAMPLING) + 0.5) / SUPERSAMPLING,
        (np.arange(HEIGHT * SUPERSAMPLING) + 0.5) / SUPERSAMPLING,
    )
    in_camera = np.stack([(u - WIDTH / 2) / FOCAL, -(v - HEIGHT / 2) / FOCAL, -np.ones_like(u)], axis=-1)
    directions = in_camera @ camera_to_world[:3, :3].T
    rgb = shade(np.broadcast_to(camera_to_world[:3, 3], directions.shape), directions)
    rgb = rgb.reshape(HEIGHT, SUPERSAMPLING, WIDTH, SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.round(rgb * 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A posed data set in Nerfstudio's format: 16 photos of 64x48 pixels from a ring, with exact pinhole cameras.

    Tests must not change it; `copy_scene` gives a copy that they may corrupt.
    """
    folder = tmp_path_factory.mktemp("tiny") / "scene"
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(NUM_PHOTOS):
        camera_to_world = ring_camera_to_world(2 * np.pi * i / NUM_PHOTOS, height=1.4 + 0.5 * (i % 2))
        name = f"images/{i:03d}.png"
        Image.fromarray(render_tiny_photo(camera_to_world)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": camera_to_world.tolist()})
    meta = {
        "camera_model": "OPENCV",
        "fl_x": FOCAL,
        "fl_y": FOCAL,
        "cx": WIDTH / 2,
        "cy": HEIGHT / 2,
        "w": WIDTH,
        "h": HEIGHT,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(meta, indent=1))
    return folder


@pytest.fixture
def copy_scene(tiny_scene: Path, tmp_path: Path) -> Callable[[], Path]:
    """A function that gives a fresh copy of `tiny_scene`, which the test may corrupt."""
    copies = 0

    def copy() -> Path:
        nonlocal copies
        copies += 1
        return Path(shutil.copytree(tiny_scene, tmp_path / f"scene_{copies}"))

    return copy


@pytest.fixture
def annotations_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that pass wrong shapes and names on purpose: the code's own checks are to answer."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets: IMG3D_DATA, or `../shared/data` beside the repository; skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("IMG3D_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder} (set IMG3D_DATA)")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's browser; skips where there is none. Playwright runs only one at a time: hence a module's own."""
    try:
        with headless_chromium() as browser:
            yield browser
    except NoChromiumError as missing:
        pytest.skip(str(missing))
