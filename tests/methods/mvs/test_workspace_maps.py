# SPDX-License-Identifier: Apache-2.0
"""Depth maps of a data set's dense workspace are taken as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stereo_scenes import stereo_scene

from img3d_base.errors import InputError
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, read_map, write_map, write_workspace
from img3d_kernels.stereo.views import DepthMap
from img3d_methods.mvs import depth_stage
from img3d_methods.mvs.photos import MvsPhotos
from img3d_methods.mvs.presets import PRESETS
from img3d_methods.mvs.stage_cache import StageCache

SOURCES = [[j for j in range(5) if j != i] for i in range(5)]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A ball before a wall with its true depth."""
    photos = []
    for i, (view, depth, normals) in enumerate(zip(*stereo_scene(), strict=True)):
        rgb = np.repeat(view.grey.numpy()[..., None], 3, axis=-1)
        photos.append(DensePhoto(f"{i}.png", rgb, view, DepthMap(depth, normals, torch.zeros_like(depth))))
    write_workspace(tmp_path / "workspace", photos, SOURCES)
    return tmp_path / "workspace"


def photos_of(workspace: Path) -> MvsPhotos:
    config = Img3dPhotosDataParserConfig(data=workspace, eval_mode="all", load_3D_points=False)
    return MvsPhotos(config.setup().get_dataparser_outputs("train"), 96)


def test_depth_is_that_of_the_workspace_in_the_training_world(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photos_of(workspace)
    monkeypatch.setattr(depth_stage, "stereo_depth_maps", None)
    maps = depth_stage.depth_maps(photos, PRESETS["fast"], StageCache(workspace / "cache"))
    assert "5 depth maps of the data set's dense workspace" in " ".join(capsys.readouterr().out.split())
    _, depths, normals = stereo_scene()
    assert photos.outputs.dataparser_scale != 1
    for found, depth, expected in zip(maps, depths, normals, strict=True):
        torch.testing.assert_close(found.depth, depth * photos.outputs.dataparser_scale)
        torch.testing.assert_close(found.normals, expected, atol=1e-5, rtol=0)


def test_a_damaged_map_is_left_out(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = photos_of(workspace).fingerprint("")
    path = workspace / "stereo/depth_maps/3.png.geometric.bin"
    path.write_bytes(path.read_bytes()[:-4])
    photos = photos_of(workspace)
    assert photos.fingerprint("") != before
    maps = depth_stage.depth_maps(photos, PRESETS["fast"], StageCache(workspace / "cache"))
    assert [bool((found.depth > 0).any()) for found in maps] == [True, True, True, False, True]
    assert "3.png.geometric.bin is damaged" in " ".join(capsys.readouterr().out.split())


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.bin"
    values = np.random.default_rng(0).random((4, 6, 3)).astype(np.float32)
    write_map(path, values)
    np.testing.assert_array_equal(read_map(path, 3), values)
    with pytest.raises(InputError, match="damaged"):
        read_map(path, 1)
    for contents in (b"", b"6&4&", b"6&4&3&", b"0&0&3&", b"999999&999999&3&abcd", b"-6&4&3&" + bytes(288)):
        path.write_bytes(contents)
        with pytest.raises(InputError):
            read_map(path, 3)
