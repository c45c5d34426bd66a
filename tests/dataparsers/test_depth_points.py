# SPDX-License-Identifier: Apache-2.0
"""Seed points from depth maps: dense, on the surfaces, and instead of triangulating."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from corner_scene import HEIGHT, LENSES, NUM_PHOTOS, WIDTH, camera_to_world, make_scene, parse, photograph, points_of
from PIL import Image

from img3d_dataparsers.depth_points import UNIT, read_depth
from img3d_dataparsers.posed_photos import FloatArray


def add_depth(folder: Path, lens: dict[str, Any], suffix: str = ".png") -> Path:
    """Depth maps of half the photos' size, named in transforms.json as Nerfstudio does."""
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    (folder / "depth").mkdir()
    for i, frame in enumerate(meta["frames"]):
        depth = photograph(camera_to_world(i), lens)[2]
        depth = np.where(np.isfinite(depth), depth, 0) / UNIT
        small = cv2.resize(depth, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        frame["depth_file_path"] = f"depth/{i}{suffix}"
        if suffix == ".npy":
            np.save(folder / frame["depth_file_path"], small.astype(np.float32))
        else:
            cv2.imwrite(str(folder / frame["depth_file_path"]), small.round().astype(np.uint16))
    path.write_text(json.dumps(meta))
    return folder


def distance_to_surface(xyz: FloatArray) -> FloatArray:
    return np.minimum(np.abs(xyz[:, 2]), np.abs(xyz[:, 1] - 1))


@pytest.mark.parametrize("suffix", [".png", ".npy"])
@pytest.mark.parametrize("lens", [LENSES["pinhole"], LENSES["distorted"]], ids=["pinhole", "distorted"])
def test_they_lie_on_what_was_photographed(lens: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    xyz, _ = points_of(add_depth(make_scene(tmp_path / "scene", lens), lens, suffix))
    assert len(xyz) > 20_000
    assert (xyz[:, 2] > 0.1).any() and (xyz[:, 1] < 0.9).any()
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01


def test_they_have_the_photo_s_colours(tmp_path: Path) -> None:
    folder = make_scene(tmp_path / "scene", {})
    for i in range(NUM_PHOTOS):
        _, wall, _ = photograph(camera_to_world(i), {})
        Image.fromarray(np.where(wall[..., None], [200, 30, 30], [30, 30, 200]).astype(np.uint8)).save(
            folder / "images" / f"{i}.png"
        )
    xyz, rgb = points_of(add_depth(folder, {}))
    away_from_the_edge = np.maximum(np.abs(xyz[:, 2]), np.abs(xyz[:, 1] - 1)) > 0.05
    on_wall = np.abs(xyz[:, 1] - 1) < np.abs(xyz[:, 2])
    expected = np.where(on_wall[:, None], [200, 30, 30], [30, 30, 200])
    assert np.abs(rgb - expected)[away_from_the_edge].max() <= 1


def test_nothing_floats_between_what_lies_before_and_what_lies_behind(tmp_path: Path) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    for path in (folder / "depth").iterdir():
        depth = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
        depth[20:60, 30:70] //= 2  # something at half the distance, with a blurred edge
        cv2.imwrite(str(path), cv2.blur(depth, (3, 3)))
    xyz, _ = points_of(folder)
    origins = np.stack([camera_to_world(i)[:3, 3] for i in range(NUM_PHOTOS)])
    # Along the ray from its camera, a point is on the surface, or half as far as it.
    fractions = [_fraction_of_distance(xyz, origin) for origin in origins]
    nearest = np.min([np.minimum(np.abs(f - 0.5), np.abs(f - 1)) for f in fractions], axis=0)
    assert (nearest > 0.05).mean() < 0.01


def _fraction_of_distance(xyz: FloatArray, origin: FloatArray) -> FloatArray:
    """How far along the way from `origin` to the corner the points are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_floor = -origin[2] / (xyz[:, 2] - origin[2])
        to_wall = (1 - origin[1]) / (xyz[:, 1] - origin[1])
    to_surface = np.minimum(np.where(to_floor > 0, to_floor, np.inf), np.where(to_wall > 0, to_wall, np.inf))
    return 1 / to_surface


def test_a_damaged_depth_map_costs_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    (folder / "depth" / "3.png").write_bytes(b"no depth")
    (folder / "depth" / "4.png").unlink()
    assert len(parse(folder).metadata["points3D_xyz"]) > 20_000
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert "2 depth maps do not exist or are damaged" in warning


@pytest.mark.parametrize("name", ["absent.png", "absent.npy"])
def test_no_depth_is_read_from_nothing(name: str, tmp_path: Path) -> None:
    assert read_depth(tmp_path / name) is None


def test_unknown_depths_are_zero(tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.array([[1000.0, np.nan], [np.inf, -5.0]]))
    depth = read_depth(tmp_path / "depth.npy")
    assert depth is not None
    np.testing.assert_array_equal(depth, [[1.0, 0.0], [0.0, 0.0]])


def test_masked_parts_give_none(tmp_path: Path) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    (folder / "masks").mkdir()
    for i in range(NUM_PHOTOS):
        _, wall, _ = photograph(camera_to_world(i), {})
        Image.fromarray((~wall * 255).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
    xyz, _ = points_of(folder)
    assert (np.abs(xyz[:, 2]) < 0.01).mean() > 0.99
