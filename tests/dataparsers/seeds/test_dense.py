# SPDX-License-Identifier: Apache-2.0
"""Seed points from coarse stereo: on the surfaces, also where no feature is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from stereo_scenes import BALL, RADIUS, WALL_DISTANCE, WALL_NORMAL, stereo_scene

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

OFFSET = np.array([4e5, 5e6, 100.0])
"""Georeferenced captures are that far from the origin."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of a ball before a wall, with their poses in a transforms.json."""
    folder = tmp_path_factory.mktemp("ball")
    (folder / "images").mkdir()
    views, _, _ = stereo_scene(240, 200)
    frames = []
    for i, view in enumerate(views):
        Image.fromarray(view.grey.numpy()).convert("RGB").save(folder / "images" / f"{i}.png")
        pose = torch.linalg.inv(view.viewmat).numpy()
        pose[:3, 1:3] *= -1  # OpenCV's axes to OpenGL's
        pose[:3, 3] += OFFSET
        K = view.K
        intrinsics = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2], "w": 240, "h": 200}
        frames.append(
            {
                "file_path": f"images/{i}.png",
                "transform_matrix": pose.tolist(),
                **{name: float(value) for name, value in intrinsics.items()},
            }
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return folder


def hide_left_halves(folder: Path, photos: Iterable[int]) -> None:
    """Give some photos masks that exclude their left halves."""
    (folder / "masks").mkdir()
    mask = np.full((200, 240), 255, np.uint8)
    mask[:, :120] = 0
    for i in photos:
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")


def seeds(folder: Path, kind: Literal["auto", "triangulated", "dense"]) -> np.ndarray:
    """`[P, 3]` in the scene's own coordinates."""
    config = Img3dPhotosDataParserConfig(data=folder, eval_mode="all", seed_points=kind)
    outputs = config.setup().get_dataparser_outputs("train")
    points = outputs.metadata["points3D_xyz"].double().numpy() / outputs.dataparser_scale
    transform = outputs.dataparser_transform.double().numpy()
    return (points - transform[:, 3]) @ transform[:, :3] - OFFSET


def distance_from_surfaces(points: np.ndarray) -> np.ndarray:
    """`[P]`: to the ball or the wall, whichever is nearer."""
    wall = np.array(WALL_NORMAL)
    to_wall = np.abs(points @ wall - WALL_DISTANCE) / np.linalg.norm(wall)
    return np.minimum(to_wall, np.abs(np.linalg.norm(points - np.array(BALL), axis=1) - RADIUS))


def test_dense_seeds_lie_on_the_surfaces(capture: Path) -> None:
    few, many = seeds(capture, "triangulated"), seeds(capture, "dense")
    assert len(many) > 10_000 > len(few)
    off = distance_from_surfaces(many)
    assert np.median(off) < 0.01  # of a depth of 4: the step of a quarter of a pixel
    assert (off < 0.1).mean() > 0.97
    assert (np.linalg.norm(many - np.array(BALL), axis=1) < 1.1 * RADIUS).mean() > 0.1, "the ball has some of them"


def test_they_are_made_once(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = seeds(capture, "dense")
    capsys.readouterr()
    np.testing.assert_array_equal(seeds(capture, "auto"), first)
    assert "coarse stereo" not in capsys.readouterr().out


def test_where_two_photos_alone_show_a_surface_they_are_enough(capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "ball", ignore=shutil.ignore_patterns("masks", ".img3d"))
    hide_left_halves(tmp_path / "ball", photos=range(2, 5))
    points = seeds(tmp_path / "ball", "dense")
    on_the_left = points[points[:, 0] < -0.9]  # the masked photos show no more than -0.7 of it
    assert len(on_the_left) > 500
    assert (distance_from_surfaces(on_the_left) < 0.1).mean() > 0.95


def test_masked_pixels_give_none(capture: Path) -> None:
    hide_left_halves(capture, photos=range(5))
    masked = seeds(capture, "dense")
    # The cameras stand around x = 0 and look along z: the left halves of their pictures show x < 0.7.
    assert len(masked) > 1000
    assert masked[:, 0].min() > -0.7


def test_photos_without_anything_in_common_start_from_random_points(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(capture, tmp_path / "blank")
    for path in (tmp_path / "blank" / "images").iterdir():
        Image.new("RGB", (240, 200), "white").save(path)
    config = Img3dPhotosDataParserConfig(data=tmp_path / "blank", eval_mode="all", seed_points="dense")
    assert "points3D_xyz" not in config.setup().get_dataparser_outputs("train").metadata
    assert "training starts from random points" in capsys.readouterr().out
