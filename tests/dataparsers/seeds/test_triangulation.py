# SPDX-License-Identifier: Apache-2.0
"""Seed points from posed photos: they lie on the surfaces that were photographed, and are made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corner_scene import (
    FLOOR,
    FOCAL,
    HEIGHT,
    LENSES,
    NUM_PHOTOS,
    PIXEL,
    WIDTH,
    camera_to_world,
    look_up,
    make_scene,
    parse,
    photograph,
    points_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.seeds import triangulation
from img3d_dataparsers.seeds.triangulation import Observations, meet, pairs_to_match, triangulate
from img3d_dataparsers.sfm.sift import match


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scene(tmp_path_factory.mktemp("corner") / "scene", {})


@pytest.fixture
def scene(corner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that the test may change, and a user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))
    return Path(shutil.copytree(corner, tmp_path / "scene"))


def kept_in(folder: Path) -> list[Path]:
    return sorted((folder / ".img3d").glob("*"))


@pytest.fixture
def must_not_triangulate(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, triangulating fails the test."""

    def forbid() -> None:
        def fail(*_: object) -> None:
            raise AssertionError("triangulated")

        monkeypatch.setattr(triangulation, "triangulate", fail)

    return forbid


class TestPoints:
    @pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
    def test_they_lie_on_what_was_photographed(self, lens: dict[str, Any], tmp_path: Path) -> None:
        xyz, _ = points_of(make_scene(tmp_path / "scene", lens))
        off_floor, off_wall = np.abs(xyz[:, 2]), np.abs(xyz[:, 1] - 1)
        error = np.minimum(off_floor, off_wall)
        assert len(xyz) >= 500
        assert (off_floor < off_wall).sum() > 100 and (off_wall < off_floor).sum() > 100
        assert np.median(error) < 0.2 * PIXEL  # as precise as SIFT is
        assert np.quantile(error, 0.99) < 3 * PIXEL

    def test_they_have_the_surface_s_colours(self, scene: Path) -> None:
        xyz, rgb = points_of(scene)
        floor = xyz[:, 2] < 0.05
        expected = look_up(FLOOR, xyz[floor, 0], xyz[floor, 1])[:, 0]
        assert np.abs(rgb[floor] - expected).mean() < 14  # features lie on edges, which pixels blur
        assert np.corrcoef(rgb[floor].ravel(), expected.ravel())[0, 1] > 0.93

    def test_far_from_the_origin_and_in_any_unit(self, scene: Path) -> None:
        outputs = parse(scene, load_3D_points=False, eval_mode="all")
        poses = np.stack([camera_to_world(i) for i in range(NUM_PHOTOS)])
        (near, _), _ = triangulate(Img3dImageDataset(outputs), poses)
        shift, scale = np.array([4e6, -5e5, 1e3]), 1e3
        poses[:, :3, 3] = poses[:, :3, 3] * scale + shift
        (far, _), _ = triangulate(Img3dImageDataset(outputs), poses)
        np.testing.assert_allclose(
            (far - shift) / scale, near, rtol=0, atol=1e-8
        )  # of coordinates of 4e6 in double precision

    def test_held_out_photos_do_not_contribute(self, scene: Path) -> None:
        before, _ = points_of(scene)
        for path in parse(scene, "val").image_filenames:
            noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(noise).save(path)
        shutil.rmtree(scene / ".img3d")
        np.testing.assert_array_equal(points_of(scene)[0], before)

    def test_nothing_comes_from_masked_parts(self, scene: Path) -> None:
        (scene / "masks").mkdir()
        for i in range(NUM_PHOTOS):
            _, wall, _ = photograph(camera_to_world(i), {})
            Image.fromarray((~wall * 255).astype(np.uint8)).save(scene / "masks" / f"{i}.png")
        xyz, _ = points_of(scene)
        assert (xyz[:, 2] < 3 * PIXEL).mean() > 0.99

    def test_photos_without_anything_in_common_cost_one_line(
        self, scene: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for i in range(NUM_PHOTOS):
            noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(noise).save(scene / "images" / f"{i}.png")
        assert "points3D_xyz" not in parse(scene).metadata
        (warning,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Warning")]
        assert "points could be triangulated" in warning and "starts from random points" in warning

    def test_blank_photos_do_no_harm(self, scene: Path) -> None:
        for i in range(NUM_PHOTOS):
            Image.new("RGB", (WIDTH, HEIGHT), "white").save(scene / "images" / f"{i}.png")
        assert "points3D_xyz" not in parse(scene).metadata

    @pytest.mark.parametrize("options", [{"triangulate_points": False}, {"load_3D_points": False}])
    def test_only_if_wanted(
        self, scene: Path, options: dict[str, bool], must_not_triangulate: Callable[[], None]
    ) -> None:
        must_not_triangulate()
        assert "points3D_xyz" not in parse(scene, **options).metadata
        assert "points3D_xyz" not in parse(scene, "val").metadata
        assert kept_in(scene) == []

    def test_not_if_the_data_brings_points(self, scene: Path, must_not_triangulate: Callable[[], None]) -> None:
        must_not_triangulate()
        header = "ply\nformat ascii 1.0\nelement vertex 1\n"
        header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
        (scene / "points.ply").write_text(header + "0.5 0.25 0.125\n")
        meta = json.loads((scene / "transforms.json").read_text())
        (scene / "transforms.json").write_text(json.dumps({**meta, "ply_file_path": "points.ply"}))
        np.testing.assert_allclose(points_of(scene)[0], [[0.5, 0.25, 0.125]], rtol=0, atol=1e-7)  # float32


class TestKeeping:
    def test_made_once(
        self, scene: Path, capsys: pytest.CaptureFixture[str], must_not_triangulate: Callable[[], None]
    ) -> None:
        first = points_of(scene)
        (kept,) = kept_in(scene)
        assert f"kept in {kept}" in capsys.readouterr().out
        must_not_triangulate()
        again = points_of(scene, orientation_method="none", max_image_size=100)
        np.testing.assert_allclose(again[0], first[0], rtol=0, atol=1e-6)  # float32
        np.testing.assert_array_equal(again[1], first[1])
        assert f"Seed points: {len(first[0]):,} from the cache {kept}" in capsys.readouterr().out

    def test_they_move_with_the_data(
        self, scene: Path, tmp_path: Path, must_not_triangulate: Callable[[], None]
    ) -> None:
        first = points_of(scene)
        must_not_triangulate()
        np.testing.assert_array_equal(points_of(scene.rename(tmp_path / "elsewhere"))[0], first[0])

    def test_made_anew_for_other_photos_or_cameras(self, scene: Path) -> None:
        points_of(scene)
        (scene / "images" / "3.png").touch()
        points_of(scene)
        assert len(kept_in(scene)) == 2
        points_of(scene, eval_interval=5)
        assert len(kept_in(scene)) == 3
        meta = json.loads((scene / "transforms.json").read_text())
        (scene / "transforms.json").write_text(json.dumps({**meta, "fl_x": FOCAL + 0.1}))
        points_of(scene)
        assert len(kept_in(scene)) == 4

    @pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "other arrays", "other shape"])
    def test_damaged_files_are_replaced(self, scene: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
        first = points_of(scene)
        (kept,) = kept_in(scene)
        if damage == "other arrays":
            np.savez(kept, abc=np.zeros(3))
        elif damage == "other shape":
            np.savez(kept, xyz=np.zeros((4, 3)), rgb=np.zeros((5, 3), dtype=np.uint8))
        else:
            content = kept.read_bytes()
            kept.write_bytes({"empty": b"", "truncated": content[:-50], "garbage": b"abc" * 100}[damage])
        capsys.readouterr()
        again = points_of(scene)
        np.testing.assert_array_equal(again[0], first[0])
        output = capsys.readouterr().out
        assert f"{kept}" in output.partition("the seed points are made again")[0] and f"kept in {kept}" in output
        points_of(scene)
        assert "from the cache" in capsys.readouterr().out

    @pytest.mark.parametrize("obstacle", ["read-only folder", "file of that name"])
    def test_read_only_data_goes_to_the_user_s_cache(
        self, scene: Path, tmp_path: Path, obstacle: str, must_not_triangulate: Callable[[], None]
    ) -> None:
        if obstacle == "read-only folder":
            scene.chmod(0o555)
        else:
            (scene / ".img3d").touch()
        first = points_of(scene)
        assert len(list((tmp_path / "user_cache" / "img3d").glob("*.npz"))) == 1
        must_not_triangulate()
        np.testing.assert_array_equal(points_of(scene)[0], first[0])
        assert not (scene / ".img3d").is_dir()
        scene.chmod(0o755)

    def test_nowhere_to_write_is_no_reason_to_stop(
        self, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (scene / ".img3d").touch()
        (tmp_path / "user_cache").touch()
        assert len(points_of(scene)[0]) >= 500
        assert "could not be kept in" in capsys.readouterr().out

    def test_a_run_that_is_stopped_leaves_nothing(self, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            points_of(scene)
        assert kept_in(scene) == []


class TestParts:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.integers(0, 1))
    def test_exact_projections_meet_in_their_points(self, seed: int, outliers: int) -> None:
        rng = np.random.default_rng(seed)
        xyz = rng.uniform(-0.3, 0.3, (20, 3)) + [0, 0.6, 0.3]
        poses = np.stack([camera_to_world(i) for i in range(6)])
        K = np.tile([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], (6, 1, 1))
        world_to_cameras = np.linalg.inv(poses @ np.diag([1.0, -1.0, -1.0, 1.0]))[:, :3]
        pixels = np.einsum("nij,pj->pni", K @ world_to_cameras, np.c_[xyz, np.ones(20)])
        pixels = pixels[..., :2] / pixels[..., 2:]
        pixels[:, 2] += outliers * rng.choice([-40, 40], (20, 2))  # one photo matched something else
        point, photo = np.divmod(np.arange(120), 6)
        rgb = np.repeat(rng.integers(0, 256, (20, 3), dtype=np.uint8), 6, axis=0)
        found, colours = meet(Observations(point, photo, pixels.reshape(-1, 2), rgb), K, world_to_cameras, 3)
        np.testing.assert_allclose(found, xyz, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(colours, rgb[::6])

    def test_points_without_parallax_are_left_out(self) -> None:
        poses = np.stack([camera_to_world(0)] * 3)
        poses[:, 0, 3] += [0, 0.01, 0.02]
        K = np.tile([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]], (3, 1, 1))
        world_to_cameras = np.linalg.inv(poses @ np.diag([1.0, -1.0, -1.0, 1.0]))[:, :3]
        pixels = (K @ world_to_cameras) @ [0.0, 0.6, 0.3, 1.0]
        tracks = Observations(
            np.zeros(3, dtype=np.int64), np.arange(3), pixels[:, :2] / pixels[:, 2:], np.zeros((3, 3), dtype=np.uint8)
        )
        assert len(meet(tracks, K, world_to_cameras, 3)[0]) == 0

    def test_matches_are_mutual_and_unambiguous(self) -> None:
        axes = torch.eye(128)
        first = torch.stack([axes[0], axes[1], axes[2], axes[0] + 0.5 * axes[5]])
        second = torch.stack([axes[9], axes[2], axes[0], axes[1] + 0.1 * axes[3], axes[1] + 0.1 * axes[4]])
        unit = torch.nn.functional.normalize
        # 1 could be either of two; 3 looks like 2, whose better match is 0.
        assert match(unit(first), unit(second), 0.85).tolist() == [[0, 2], [2, 1]]

    def test_matching_is_the_same_in_blocks(self) -> None:
        generator = torch.Generator().manual_seed(0)
        first = torch.nn.functional.normalize(torch.rand(700, 128, generator=generator))
        order = torch.randperm(700, generator=generator)
        matches = match(first, first[order], 0.85)
        assert len(matches) == 700
        np.testing.assert_array_equal(order.numpy()[matches[:, 1]], matches[:, 0])

    def test_photos_are_matched_with_near_ones_that_look_the_same_way(self) -> None:
        poses = np.tile(np.eye(4), (60, 1, 1))
        poses[:, 0, 3] = np.arange(60)
        poses[30:, :3, :3] = np.diag([-1.0, 1.0, -1.0])  # the others look back
        pairs = pairs_to_match(poses)
        assert all((i < 30) == (j < 30) for i, j in pairs)
        assert max(j - i for i, j in pairs) == triangulation.NEIGHBOURS
        assert {(i, i + 1) for i in range(29)} < set(pairs)
