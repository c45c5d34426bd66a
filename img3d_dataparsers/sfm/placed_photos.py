# SPDX-License-Identifier: Apache-2.0
"""Converting a reconstruction to upright photos with poses, in an upright world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from img3d_dataparsers.posed_photos import Frame, PosedPhotos, SeedPoints
from img3d_dataparsers.sfm.photo_cameras import SOLVED
from img3d_dataparsers.sfm.photo_sensors import UpVector
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet
from img3d_dataparsers.sfm.placement import UP, placement_of
from img3d_dataparsers.sfm.solved_model import SolvedModel, SolvedPhoto


def placed_photos(photo_set: PhotoSet, model: SolvedModel, source: Path) -> PosedPhotos:
    """The registered photos and their points, in a world with z up, and in metres if there is GPS.

    Args:
        photo_set: The photos.
        model: The reconstruction.
        source: Where the reconstruction is stored, for messages.
    """
    frames = [_frame(solved) for solved in model.photos]
    placement = placement_of(
        np.stack([frame.camera_to_world for frame in frames]),
        model.xyz,
        [_upright(solved.photo) for solved in model.photos],
        [solved.photo.position for solved in model.photos],
    )
    points: SeedPoints = placement.points(model.xyz), model.rgb
    return PosedPhotos(
        source=source,
        folder=photo_set.folder,
        frames=[replace(frame, camera_to_world=placement.pose(frame.camera_to_world)) for frame in frames],
        up=UP,
        up_source=placement.upright.source,
        scale_source=placement.scale_source,
        read_seed_points=lambda: points,
        adds_triangulated_points=True,
    )


def _upright(photo: Photo) -> UpVector | None:
    """Up by a sensor, in the axes of the upright photo."""
    if photo.sensed_up is None:
        return None
    x, y, z = photo.sensed_up
    for _ in range(photo.quarter_turns):  # each clockwise: up becomes right
        x, y = y, -x
    return x, y, z


def _frame(solved: SolvedPhoto) -> Frame:
    photo, (width, height) = solved.photo, solved.photo.sensor_size
    rotation, translation = solved.world_to_camera[:, :3], solved.world_to_camera[:, 3]
    x, y, forward = rotation  # the camera's axes in the world, OpenCV's
    if photo.lens == "equirectangular":
        intrinsics: dict[str, Any] = {"w": width, "h": height}
    else:
        focal_length, cx, cy, k1, k2 = solved.camera.parameters
        for _ in range(photo.quarter_turns):  # each clockwise: left becomes up
            x, y, cx, cy = -y, x, height - cy, cx
            width, height = height, width
        intrinsics = dict(fl_x=focal_length, fl_y=focal_length, cx=cx, cy=cy, w=width, h=height, k1=k1, k2=k2)
    camera_to_world = np.eye(4)
    camera_to_world[:3] = np.stack([x, -y, -forward, -rotation.T @ translation], axis=1)
    return Frame(
        name=photo.name,
        image_path=photo.path,
        camera_to_world=camera_to_world,
        intrinsics={"camera_model": SOLVED[photo.lens], **intrinsics},
        mask_path=photo.mask_path,
        upright=True,
    )
