# SPDX-License-Identifier: Apache-2.0
"""A reconstruction as photos with poses: upright as people look at them, in a world that is upright, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from img3d_dataparsers.posed_photos import Frame, PosedPhotos, SeedPoints
from img3d_dataparsers.sfm.photo_sensors import UpVector
from img3d_dataparsers.sfm.photo_set import Photo, PhotoSet
from img3d_dataparsers.sfm.placement import UP, placement_of
from img3d_dataparsers.sfm.solved_model import SolvedModel, SolvedPhoto


def placed_photos(photo_set: PhotoSet, model: SolvedModel, source: Path) -> PosedPhotos:
    """The registered photos, and the points they share, in a world with z up, and in metres if GPS tells.

    Args:
        photo_set: the photos.
        model: the reconstruction.
        source: where it is kept, for messages.
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
    """Up as a sensor has it, in the axes of the upright photo."""
    if photo.sensed_up is None:
        return None
    x, y, z = photo.sensed_up
    for _ in range(photo.quarter_turns):  # each clockwise: what was up is right
        x, y = y, -x
    return x, y, z


def _frame(solved: SolvedPhoto) -> Frame:
    photo, (width, height) = solved.photo, solved.photo.sensor_size
    focal_length, cx, cy, k1, k2 = solved.camera.parameters
    rotation, translation = solved.world_to_camera[:, :3], solved.world_to_camera[:, 3]
    x, y, forward = rotation  # the camera's axes in the world, OpenCV's
    for _ in range(photo.quarter_turns):  # each clockwise: what was left is up
        x, y, cx, cy = -y, x, height - cy, cx
        width, height = height, width
    camera_to_world = np.eye(4)
    camera_to_world[:3] = np.stack([x, -y, -forward, -rotation.T @ translation], axis=1)
    return Frame(
        name=photo.name,
        image_path=photo.path,
        camera_to_world=camera_to_world,
        intrinsics=dict(fl_x=focal_length, fl_y=focal_length, cx=cx, cy=cy, w=width, h=height, k1=k1, k2=k2),
        mask_path=photo.mask_path,
        upright=True,
    )
