# SPDX-License-Identifier: Apache-2.0
"""Seed points from depth maps: dense, on the surfaces, and instead of triangulating."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from corner_scene import HEIGHT, LENSES, NUM_PHOTOS, WIDTH, camera_to_world, make_scene, parse, photograph, points_of
from exr_files import exr_bytes
from PIL import Image

from img3d_dataparsers import photos
from img3d_dataparsers.formats.transforms_json import read_transforms
from img3d_dataparsers.inspect_command import _said_of_points
from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.usable_photos import usable_photos


def add_depth(
    folder: Path,
    lens: dict[str, Any],
    suffix: str = ".png",
    unit: float = 1e-3,
    change: Callable[[FloatArray], FloatArray] = lambda depth: depth,
) -> Path:
    """Depth maps of half the photos' size in some unit, named in transforms.json as Nerfstudio does."""
    path = folder / "transforms.json"
    meta = json.loads(path.read_text())
    (folder / "depth").mkdir()
    for i, frame in enumerate(meta["frames"]):
        depth = photograph(camera_to_world(i), lens)[2]
        depth = change(np.where(np.isfinite(depth), depth, 0)) / unit
        small = cv2.resize(depth, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
        frame["depth_file_path"] = f"depth/{i}{suffix}"
        if suffix == ".npy":
            np.save(folder / frame["depth_file_path"], small.astype(np.float32))
        elif suffix == ".exr":
            (folder / frame["depth_file_path"]).write_bytes(exr_bytes({"Z": small.astype(np.float32)}))
        else:
            cv2.imwrite(str(folder / frame["depth_file_path"]), small.round().astype(np.uint16))
    path.write_text(json.dumps(meta))
    return folder


@pytest.fixture(autouse=True)
def quickly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points as triangulating gives them, but for the time that it takes, unless a test is about that."""
    if request.node.get_closest_marker("slow") is None:
        u, v = np.random.default_rng(0).uniform([[-1.0], [0.0]], 1.0, (2, 400))
        points = np.concatenate([np.stack([u, 0.8 * v, 0 * u], axis=1), np.stack([u, 0 * u + 1, v], axis=1)])
        points = points, np.full((800, 3), 90, np.uint8)
        monkeypatch.setattr(photos, "triangulated", lambda *_: points)


def edit(folder: Path, **values: Any) -> None:
    meta = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({**meta, **values}))


def distance_to_surface(xyz: FloatArray) -> FloatArray:
    return np.minimum(np.abs(xyz[:, 2]), np.abs(xyz[:, 1] - 1))


@pytest.mark.parametrize(
    ("suffix", "unit", "said"),
    [
        (".png", 1e-3, "unit millimetres (0.001), the usual one"),
        (".npy", 1.0, "unit metres (1), the usual one"),
        (".exr", 1.0, "unit metres (1), the usual one"),
        (".npy", 1e-3, "unit millimetres (0.001), measured at points"),
        (".png", 1 / 5000, "unit 0.0002, measured at points"),
        (".exr", 1 / 7.3, "measured at points triangulated"),
    ],
)
@pytest.mark.parametrize("lens", ["distorted"])
def test_they_lie_on_what_was_photographed(
    lens: str, suffix: str, unit: float, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the unit: photos that see one corner from different places tell."""
    xyz, _ = points_of(add_depth(make_scene(tmp_path / "scene", LENSES[lens]), LENSES[lens], suffix, unit))
    assert len(xyz) > 20_000
    assert (xyz[:, 2] > 0.1).any() and (xyz[:, 1] < 0.9).any()
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.012
    [line] = [line for line in capsys.readouterr().out.splitlines() if "depth maps" in line]
    assert said in line


@pytest.mark.parametrize("lens", LENSES)
def test_through_every_lens(lens: str, tmp_path: Path) -> None:
    xyz, _ = points_of(add_depth(make_scene(tmp_path / "scene", LENSES[lens]), LENSES[lens]))
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01


@pytest.mark.slow
def test_the_unit_is_measured_at_points_of_the_photos(tmp_path: Path) -> None:
    """Poses that were solved for have a scale of their own."""
    xyz, _ = points_of(add_depth(make_scene(tmp_path / "scene", {}), {}, ".exr", 1 / 7.3))
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.012


def test_the_unit_that_the_data_set_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, unit=1 / 12_345)
    edit(folder, depth_unit_scale_factor=1 / 12_345)
    xyz, _ = points_of(folder)
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01
    assert "unit 8.1e-05, as the data set declares" in capsys.readouterr().out


def as_instant_ngp(folder: Path, **values: Any) -> Path:
    """Its name for the depth maps of the frames."""
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    edit(folder, frames=[{"depth_path": frame.pop("depth_file_path"), **frame} for frame in frames], **values)
    return folder


def test_instant_ngps_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As NeRFCapture writes them: 65535 is 10 metres."""
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, unit=10 / 65535)
    xyz, _ = points_of(as_instant_ngp(folder, integer_depth_scale=10 / 65535))
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01
    assert "unit 0.0001526, as the data set declares" in capsys.readouterr().out


def test_instant_ngps_unit_is_that_of_the_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, unit=1 / 12_345)
    xyz, _ = points_of(as_instant_ngp(folder, integer_depth_scale=1 / 12_345, applied_scale=0.5))
    assert np.quantile(distance_to_surface(0.5 * xyz), 0.99) < 0.01
    assert (
        "unit 0.000162, as the data set declares" in capsys.readouterr().out
    )  # in the capture, which is twice as large


@pytest.mark.parametrize(("suffix", "unit", "given"), [(".png", 1e-3, 0.0), (".png", 1e-3, -1.0), (".npy", 1.0, 1e-3)])
def test_instant_ngps_unit_is_for_whole_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, unit: float, given: float
) -> None:
    """And none where it is not positive."""
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, suffix, unit)
    xyz, _ = points_of(as_instant_ngp(folder, integer_depth_scale=given))
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01
    assert "the usual one" in capsys.readouterr().out


def test_some_frames_with_either_name(tmp_path: Path) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    frames[1]["depth_path"] = frames[1].pop("depth_file_path")
    edit(folder, frames=frames)
    posed = read_transforms(folder / "transforms.json")
    assert [frame.depth_path for frame in posed.frames] == [folder / f"depth/{i}.png" for i in range(NUM_PHOTOS)]


def test_a_unit_that_the_points_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some write how many units a metre has."""
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    xyz, _ = points_of(as_instant_ngp(folder, integer_depth_scale=1000))
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01
    [line] = [line for line in capsys.readouterr().out.splitlines() if "depth maps" in line]
    assert "unit millimetres (0.001), measured at points" in line and "the data set's 1000 is wrong" in line


def test_poses_in_another_unit_than_the_capture(tmp_path: Path) -> None:
    """Their world is `applied_scale` times as large as that which the depth maps measure."""
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    meta = json.loads((folder / "transforms.json").read_text())
    for frame in meta["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] *= 40.0
    edit(folder, frames=meta["frames"], applied_scale=40.0)
    xyz, _ = points_of(folder)  # with dataparser_scale, which leads back to the capture
    assert np.quantile(distance_to_surface(xyz), 0.99) < 0.01


@pytest.mark.parametrize("given", [None, 0.5])
def test_relative_depth_gives_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], given: float | None) -> None:
    """As networks guess it: near is large."""
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, ".npy", 1.0, lambda depth: 1 / depth**3)
    edit(folder, depth_unit_scale_factor=given)
    assert "points3D_xyz" not in parse(folder, triangulate_points=False).metadata
    [warning] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert "contradict points triangulated" in warning


def test_far_from_the_origin(tmp_path: Path) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    meta = json.loads((folder / "transforms.json").read_text())
    offset = np.array([4.6e5, 5.4e6, 300.0])
    for frame in meta["frames"]:
        for row, shift in zip(frame["transform_matrix"], offset, strict=False):
            row[3] += shift
    edit(folder, frames=meta["frames"])
    xyz, _ = points_of(folder)
    assert np.quantile(distance_to_surface(xyz - offset), 0.99) < 0.01


def test_maps_without_a_known_pixel_are_as_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {}, change=np.zeros_like)
    assert len(parse(folder).metadata["points3D_xyz"]) > 100  # triangulated
    [warning] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
    assert "8 depth maps without any known depth" in warning


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
    assert "2 missing or damaged depth maps" in warning


def test_masked_parts_give_none(tmp_path: Path) -> None:
    folder = add_depth(make_scene(tmp_path / "scene", {}), {})
    (folder / "masks").mkdir()
    for i in range(NUM_PHOTOS):
        _, wall, _ = photograph(camera_to_world(i), {})
        Image.fromarray((~wall * 255).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
    xyz, _ = points_of(folder)
    assert (np.abs(xyz[:, 2]) < 0.01).mean() > 0.99


def test_inspect_says_where_seeds_will_come_from(tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        posed = read_transforms(folder / "transforms.json")
        return _said_of_points(posed, usable_photos(posed, at_least=1), posed.read_seed_points())

    folder = make_scene(tmp_path / "scene", {})
    assert said(folder) == "none: triangulated before training"
    add_depth(folder, {})
    (folder / "depth" / "3.png").unlink()
    assert said(folder) == "none: from the depth maps of 9 photos, before training"
