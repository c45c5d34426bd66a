# SPDX-License-Identifier: Apache-2.0
"""Seed points from coarse stereo: on the surfaces, also where no feature is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import cv2
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


def paste_board(folder: Path, photos: Iterable[int], corners: np.ndarray) -> None:
    """Hang a board with texture of its own, with these corners `[4, 3]`, into some photos."""
    texture = np.random.default_rng(0).integers(0, 256, (24, 16), dtype=np.uint8)
    texture = cv2.resize(texture, (160, 240), interpolation=cv2.INTER_CUBIC)
    views, _, _ = stereo_scene(240, 200)
    for i in photos:
        in_camera = corners @ views[i].viewmat[:3, :3].numpy().T + views[i].viewmat[:3, 3].numpy()
        pixels = (in_camera / in_camera[:, 2:]) @ views[i].K.numpy().T
        onto = cv2.getPerspectiveTransform(
            np.array([[0, 0], [160, 0], [160, 240], [0, 240]], np.float32), pixels[:, :2].astype(np.float32)
        )
        path = folder / "images" / f"{i}.png"
        photo = np.array(Image.open(path).convert("L"))
        board = cv2.warpPerspective(texture, onto, (240, 200))
        shown = cv2.warpPerspective(np.ones_like(texture), onto, (240, 200)) > 0
        Image.fromarray(np.where(shown, board, photo)).convert("RGB").save(path)


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


def test_what_two_photos_show_and_others_see_through_gives_none(capture: Path, tmp_path: Path) -> None:
    shutil.copytree(capture, tmp_path / "ball", ignore=shutil.ignore_patterns("masks", ".img3d"))
    corners = np.array([[-1.5, -1.2, 3], [-0.7, -1.2, 3], [-0.7, 1.2, 3], [-1.5, 1.2, 3]])
    paste_board(tmp_path / "ball", photos=(0, 2), corners=corners)

    def on_the_board(points: np.ndarray) -> int:
        return int((np.abs(points - corners.mean(axis=0)) < [0.5, 1.3, 0.2]).all(axis=1).sum())

    features, all_points = seeds(tmp_path / "ball", "triangulated"), seeds(tmp_path / "ball", "dense")
    assert on_the_board(features) > 20, "both photos show it"
    assert on_the_board(all_points) < 300  # stereo of the two finds 2,500
    assert (distance_from_surfaces(all_points) < 0.1).mean() > 0.98


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
