# SPDX-License-Identifier: Apache-2.0
"""Depth and normal maps are read back from files of every format as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from stereo_scenes import stereo_scene

from img3d_base.errors import InputError
from img3d_dataparsers.depth.exr import read_exr
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, fused_cloud
from img3d_exporters.depth.depth_files import write_depth_maps
from img3d_exporters.depth.photo_depth import normals_of_depth, relative_names
from img3d_kernels.stereo.views import DepthMap
from img3d_pictures import exr


@pytest.fixture(scope="module")
def photos() -> list[DensePhoto]:
    """With true depth, but for a corner that is unknown."""
    made = []
    for i, (view, depth, normals) in enumerate(zip(*stereo_scene(), strict=True)):
        known = torch.ones(view.size, dtype=torch.bool)
        known[:10, :10] = False
        rgb = np.full((*view.size, 3), (200, 20, 10), np.uint8)
        found = DepthMap(depth, normals, torch.zeros_like(depth)).where(known)
        made.append(DensePhoto(f"some/{i}.png", rgb, view, found))
    return made


def gl_normals(photo: DensePhoto) -> np.ndarray:
    return photo.found.normals.numpy() * [1, -1, -1]


def test_png_has_16_bits_in_the_scale_that_is_stated(photos: list[DensePhoto], tmp_path: Path) -> None:
    assert "1000 steps" in write_depth_maps(photos, tmp_path, "png", None)
    stated = json.loads((tmp_path / "cameras.json").read_text())
    assert stated["values_per_unit"] == 1000 and len(stated["frames"]) == 5
    for photo, frame in zip(photos, stated["frames"], strict=True):
        steps = cv2.imread(str(tmp_path / frame["depth"]), cv2.IMREAD_UNCHANGED)
        assert steps.dtype == np.uint16
        np.testing.assert_allclose(steps / stated["values_per_unit"], photo.found.depth.numpy(), atol=0.6e-3)
        pixels = np.asarray(Image.open(tmp_path / frame["normals"]))
        known = photo.found.depth.numpy() > 0
        np.testing.assert_allclose((pixels / 127.5 - 1)[known], gl_normals(photo)[known], atol=0.005)
        assert (pixels[~known] == 0).all()
        pose = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])
        np.testing.assert_allclose(pose @ photo.view.viewmat.numpy(), np.eye(4), atol=1e-9)
        assert frame["fl_x"] == pytest.approx(float(photo.view.K[0, 0]))


def test_floats_are_exact(photos: list[DensePhoto], tmp_path: Path) -> None:
    for kind in ("exr", "npy"):
        (tmp_path / kind).mkdir()
        write_depth_maps(photos, tmp_path / kind, kind, None)
    depth, normals = photos[2].found.depth.numpy(), gl_normals(photos[2]).astype(np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "npy/depth/some/2.npy"), depth)
    np.testing.assert_array_equal(np.load(tmp_path / "npy/normals/some/2.npy"), normals)
    np.testing.assert_array_equal(read_exr(tmp_path / "exr/depth/some/2.exr"), depth)
    np.testing.assert_array_equal(exr.read_exr((tmp_path / "exr/normals/some/2.exr").read_bytes()), normals)


def test_colmap_goes_on_with_its_workspace(photos: list[DensePhoto], tmp_path: Path) -> None:
    write_depth_maps(photos, tmp_path, "colmap", None)
    assert len(fused_cloud(tmp_path)) > 500


def test_a_scale_that_does_not_fit_is_refused(photos: list[DensePhoto], tmp_path: Path) -> None:
    for scale in (0.0, -1.0, 1e5):
        with pytest.raises(InputError, match="--png-scale is"):
            write_depth_maps(photos, tmp_path, "png", scale)
    assert not list(tmp_path.iterdir())


def test_far_scenes_get_a_scale_that_fits(photos: list[DensePhoto], tmp_path: Path) -> None:
    far = [replace(photo, found=replace(photo.found, depth=photo.found.depth * 1e4)) for photo in photos]
    write_depth_maps(far, tmp_path, "png", None)
    scale = json.loads((tmp_path / "cameras.json").read_text())["values_per_unit"]
    assert 6553 < scale * max(float(photo.found.depth.max()) for photo in far) <= 65535


def test_names_stay_apart() -> None:
    assert relative_names([Path("/a/x.jpg"), Path("/a/y.jpg")]) == ["x.png", "y.png"]
    assert relative_names([Path("/a/left/x.jpg"), Path("/a/right/x.jpg")]) == ["left/x.png", "right/x.png"]
    assert relative_names([Path("/a/x.jpg"), Path("/a/x.png")]) == ["x.jpg.png", "x.png.png"]


def test_normals_of_depth_are_those_of_the_surface() -> None:
    views, depths, normals = stereo_scene()
    found = normals_of_depth(depths[1].numpy(), views[1].K.numpy())
    known = (found != 0).any(axis=2)
    cosines = (found * normals[1].numpy()).sum(axis=2)[known]
    assert known.mean() > 0.9 and np.quantile(cosines, 0.05) > 0.95
