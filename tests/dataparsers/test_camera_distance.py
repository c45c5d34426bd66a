# SPDX-License-Identifier: Apache-2.0
"""A measured distance between two cameras makes what goes back to the original frame metric, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tyro

from img3d_base.errors import InputError
from img3d_dataparsers.camera_distance import CameraDistance
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig


def original_origins(scene: Path, distance: CameraDistance | None) -> np.ndarray:
    """Places of the 16 cameras in the original frame."""
    config = Img3dPhotosDataParserConfig(
        data=scene, eval_mode="all", triangulate_points=False, camera_distance=distance
    )
    outputs = config.setup().get_dataparser_outputs()
    poses = outputs.transform_poses_to_original_space(outputs.cameras.camera_to_worlds.double())
    return poses[:, :3, 3].numpy()


@pytest.mark.parametrize("names", [("000.png", "008.png"), ("images/000.png", "008.png")])
def test_the_original_frame_is_in_metres(
    copy_scene: Callable[[], Path], names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    scene = copy_scene()
    meta = json.loads((scene / "transforms.json").read_text())
    meta.update(applied_scale=0.25, applied_transform=[[0.0, 0, 1, 3], [1, 0, 0, -2], [0, 1, 0, 0.5]])
    (scene / "transforms.json").write_text(json.dumps(meta))
    before, after = original_origins(scene, None), original_origins(scene, (*names, 1.2))
    assert np.linalg.norm(after[8] - after[0]) == pytest.approx(1.2, rel=1e-12)
    factor = 1.2 / np.linalg.norm(before[8] - before[0])
    np.testing.assert_allclose(after, factor * before, rtol=0, atol=1e-12)
    said = capsys.readouterr().out
    assert said.count("in metres, by the 1.2 m between") == 1


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        (("nine.png", "001.png", 1.0), "there is no usable photo nine.png; usable are 000.png, 001.png"),
        (("000.png", "000.png", 1.0), "the same place"),
        (("000.png", "001.png", 0.0), "give the metres"),
        (("000.png", "001.png", float("nan")), "give the metres"),
    ],
)
def test_distances_that_cannot_be(tiny_scene: Path, distance: CameraDistance, message: str) -> None:
    with pytest.raises(InputError, match=message):
        original_origins(tiny_scene, distance)


def test_on_the_command_line() -> None:
    config = tyro.cli(Img3dPhotosDataParserConfig, args=["--camera-distance", "a.jpg", "b c.jpg", "1.5"])
    assert config.camera_distance == ("a.jpg", "b c.jpg", 1.5)
