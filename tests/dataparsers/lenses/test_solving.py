# SPDX-License-Identifier: Apache-2.0
"""Poses of panoramas and fisheye photos are solved for, from the photos alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from textured_room import FloatArray, Rays, fisheye_rays, panorama_rays, poses, write_pictures

from img3d_dataparsers.inputs import read_posed_photos
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.sfm.photo_lens import CameraType

CAMERAS = poses(20)[:6]
"""A step of 0.55 m from each to the next."""


def errors(
    folder: Path, size: tuple[int, int], rays: Rays, camera_type: CameraType, judged: int
) -> tuple[float, float]:
    """Solves for the poses. Of the first `judged` photos, the largest error of a position as a share of the cameras'
    extent, and of a rotation in degrees."""
    write_pictures(folder, CAMERAS, size, rays)
    frames = read_posed_photos(folder, "train", camera_type=camera_type).frames
    assert len(frames) == len(CAMERAS)
    solved = np.array([frame.camera_to_world for frame in frames])[:judged]
    truth = np.array(CAMERAS)[:judged]
    rotations = truth[:, :3, :3] @ solved[:, :3, :3].transpose(0, 2, 1)
    u, _, vh = np.linalg.svd(rotations.sum(axis=0))
    rotation = u @ vh
    here, there = _centred(solved[:, :3, 3] @ rotation.T), _centred(truth[:, :3, 3])
    scale = (here * there).sum() / (here**2).sum()
    position = np.linalg.norm(scale * here - there, axis=1).max() / np.ptp(there, axis=0).max()
    cosines = (np.trace(rotations @ rotation.T, axis1=1, axis2=2) - 1) / 2
    return float(position), float(np.degrees(np.arccos(cosines.clip(-1, 1))).max())


def _centred(points: FloatArray) -> FloatArray:
    return points - points.mean(axis=0)


@pytest.mark.slow
def test_panoramas(tmp_path: Path) -> None:
    position, angle = errors(tmp_path, (720, 360), panorama_rays(720, 360), "auto", len(CAMERAS))
    assert position < 0.01 and angle < 0.3
    config = Img3dPhotosDataParserConfig(data=tmp_path, triangulate_points=False)
    outputs = config.setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 5 * 6, "every face of five panoramas; one is held out"
    assert len(outputs.metadata["points3D_xyz"]) > 100


@pytest.mark.slow
def test_fisheyes(tmp_path: Path) -> None:
    """170 degrees across, said by nothing but the photos.

    The last photo overlaps with one other, at 400 pixels: its direction is found, its distance is not.
    """
    focal = 400 / np.radians(170)
    position, angle = errors(tmp_path, (400, 400), fisheye_rays(focal, 400, 400, 0.01), "fisheye", len(CAMERAS) - 1)
    assert position < 0.02 and angle < 0.5
