# SPDX-License-Identifier: Apache-2.0
"""COLMAP's dense workspace: what COLMAP reads of it, and the cloud that its fusion makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from stereo_scenes import BALL, RADIUS, WALL_DISTANCE, WALL_NORMAL, stereo_scene

from img3d_base.errors import InputError
from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, fused_cloud, photos_needed, write_workspace
from img3d_kernels.stereo.views import DepthMap

SOURCES = [[j for j in range(5) if j != i] for i in range(5)]


def dense_photos() -> list[DensePhoto]:
    """A ball before a wall in red, with its true depth."""
    photos = []
    for i, (view, depth, normals) in enumerate(zip(*stereo_scene(), strict=True)):
        rgb = np.full((*view.size, 3), (200, 20, 10), np.uint8)
        photos.append(DensePhoto(f"some/{i}.png", rgb, view, DepthMap(depth, normals, torch.zeros_like(depth))))
    return photos


def test_colmap_reads_what_is_written(tmp_path: Path) -> None:
    photos = dense_photos()
    write_workspace(tmp_path, photos, SOURCES)
    depth_map = pycolmap.DepthMap()
    depth_map.read(tmp_path / "stereo/depth_maps/some/1.png.geometric.bin")
    np.testing.assert_array_equal(depth_map.to_array(), photos[1].found.depth.numpy())
    content = (tmp_path / "stereo/normal_maps/some/1.png.geometric.bin").read_bytes()
    assert content.startswith(b"96&80&3&")
    # As scripts/python/read_write_dense.py of COLMAP reads it.
    values = np.frombuffer(content[len("96&80&3&") :], "<f4").reshape((96, 80, 3), order="F").transpose(1, 0, 2)
    np.testing.assert_array_equal(values, photos[1].found.normals.numpy())
    model = pycolmap.Reconstruction(tmp_path / "sparse")
    assert model.num_reg_images() == 5 and model.num_points3D() > 500
    assert model.compute_mean_reprojection_error() < 0.01
    image = next(image for image in model.images.values() if image.name == "some/2.png")
    np.testing.assert_allclose(image.cam_from_world().matrix(), photos[2].view.viewmat.numpy()[:3], atol=1e-6)
    np.testing.assert_allclose(model.cameras[image.camera_id].calibration_matrix(), photos[2].view.K, atol=1e-4)
    assert (tmp_path / "stereo/fusion.cfg").read_text().split() == [photo.name for photo in photos]
    assert (tmp_path / "stereo/patch-match.cfg").read_text().splitlines()[1] == ", ".join(
        f"some/{j}.png" for j in range(1, 5)
    )


def test_many_photos_of_an_object_that_is_cut_out_need_a_third_one() -> None:
    views = [photo.view for photo in dense_photos()] * 2
    cut_out = [dataclasses.replace(view, outline=torch.ones(view.size, dtype=torch.bool)) for view in views]
    assert photos_needed(cut_out) == 3
    assert photos_needed(cut_out[:5]) == photos_needed(views) == photos_needed([*cut_out, views[0]]) == 2


def test_points_lie_on_the_surface_and_normals_point_off_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_workspace(tmp_path, dense_photos(), SOURCES)
    cloud = fused_cloud(tmp_path)
    assert len(cloud) > 500
    off = cloud.points - np.array(BALL)
    distance = np.linalg.norm(off, axis=1)
    wall = np.array(WALL_NORMAL) / np.linalg.norm(WALL_NORMAL)
    to_wall = np.abs(cloud.points @ wall - WALL_DISTANCE / np.linalg.norm(WALL_NORMAL))
    on_ball = np.abs(distance - RADIUS) < to_wall
    assert on_ball.mean() > 0.1
    assert np.quantile(np.where(on_ball, np.abs(distance - RADIUS), to_wall), 0.98) < 0.03
    expected = np.where(on_ball[:, None], off / distance[:, None], wall)
    assert np.quantile((cloud.normals * expected).sum(axis=1), 0.02) > 0.95
    np.testing.assert_allclose(cloud.colors, np.broadcast_to([200, 20, 10], cloud.colors.shape) / 255, atol=1e-3)
    assert capfd.readouterr().err == ""


def test_what_no_two_photos_share_is_said(tmp_path: Path) -> None:
    photos = dense_photos()
    empty = [dataclasses.replace(photo, found=DepthMap.empty(*photo.view.size)) for photo in photos]
    with pytest.raises(InputError, match="no depth in common"):
        write_workspace(tmp_path / "empty", empty, SOURCES)
    assert not (tmp_path / "empty").exists()
    write_workspace(tmp_path / "one", [photos[0], *empty[1:]], SOURCES)
    with pytest.raises(InputError, match="No point is seen by 2 photos"):
        fused_cloud(tmp_path / "one")
