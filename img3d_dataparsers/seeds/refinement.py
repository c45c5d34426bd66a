# SPDX-License-Identifier: Apache-2.0
"""Corrects camera poses that do not fit the photos, such as a phone's own tracking, by bundle adjustment (COLMAP's)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray
from img3d_dataparsers.seeds.triangulation import (
    MAX_MISFIT_ERROR,
    MAX_REPROJECTION_ERROR,
    Observations,
    UnitWorld,
    match_features,
    misfit,
    nearest_points,
    project,
)
from img3d_dataparsers.sfm.colmap_library import pycolmap

MAX_MISFIT = 1.0
"""Misfit in pixels from which poses are corrected. Exact ones have 0.1 to 0.4, errors of 0.3 degrees give 1.6."""
MIN_GAIN = 2.0
"""Least factor by which the misfit must fall for corrected poses to be used."""
LIMITS = (3 * MAX_MISFIT_ERROR, 4 * MAX_REPROJECTION_ERROR, MAX_REPROJECTION_ERROR)
"""Largest distance in pixels between a point's projection and its feature before each adjustment."""
MIN_VIEWS = 3
"""Photos that must see a point."""


@dataclass(frozen=True)
class RefinedPoses:
    """Corrected poses of N photos."""

    camera_to_worlds: FloatArray
    """`[N, 4, 4]`, OpenGL camera axes, in the world of the given ones."""
    misfit_before: float
    """In pixels of photos at IMAGE_SIZE."""
    misfit_after: float

    @property
    def is_better(self) -> bool:
        """Whether they fit the photos so much better that they should be used."""
        return self.misfit_after * MIN_GAIN < self.misfit_before


def refine_poses(photos: Img3dImageDataset, camera_to_worlds: FloatArray) -> RefinedPoses:
    """Adjusts poses and points together; intrinsics are kept.

    Photos without points in common with others keep their poses.

    Args:
        photos: N photos at IMAGE_SIZE, with masks and intrinsics.
        camera_to_worlds: `[N, 4, 4]`, OpenGL camera axes.
    """
    matches = match_features(photos, camera_to_worlds)
    world = UnitWorld(camera_to_worlds)
    world_to_cameras = world.world_to_cameras
    errors = matches.epipolar_errors(world_to_cameras)
    before = misfit(errors)
    for limit in LIMITS:  # wrong matches go step by step, as poses get right
        tracks = matches.tracks(matches.epipolar_errors(world_to_cameras), min(limit, MAX_MISFIT_ERROR))
        tracks = tracks.only(np.ones(len(tracks.point), dtype=np.bool_), MIN_VIEWS)
        if len(tracks.point):
            residuals, _ = project(
                nearest_points(tracks, matches.K, world_to_cameras), tracks, matches.K, world_to_cameras
            )
            tracks = tracks.only(np.linalg.norm(residuals, axis=1) <= limit, MIN_VIEWS)
        if len(tracks.point) == 0:
            return RefinedPoses(camera_to_worlds, before, before)
        points = nearest_points(tracks, matches.K, world_to_cameras)
        world_to_cameras = _adjusted(tracks, points, matches.K, world_to_cameras)
    world_to_cameras = _turned_like(world_to_cameras, world.world_to_cameras)
    rotations = np.swapaxes(world_to_cameras[:, :, :3], 1, 2)
    refined = np.tile(np.eye(4), (len(rotations), 1, 1))
    refined[:, :3, :3] = rotations * [1.0, -1.0, -1.0]
    origins = -(rotations @ world_to_cameras[:, :, 3:])[..., 0]
    refined[:, :3, 3] = origins * world.scale + world.centre
    return RefinedPoses(refined, before, misfit(matches.epipolar_errors(world_to_cameras)))


def _adjusted(tracks: Observations, points: FloatArray, K: FloatArray, world_to_cameras: FloatArray) -> FloatArray:
    """`world_to_cameras` after bundle adjustment with COLMAP; of photos without a point as they were."""
    model = pycolmap.Reconstruction()
    places = np.zeros(len(tracks.photo), dtype=np.int64)
    for i, world_to_camera in enumerate(world_to_cameras):
        seen = np.flatnonzero(tracks.photo == i)
        places[seen] = np.arange(len(seen))
        width, height = (2 * max(1, round(float(center))) for center in K[i, :2, 2])
        parameters = [K[i, 0, 0], K[i, 1, 1], K[i, 0, 2], K[i, 1, 2]]
        camera = pycolmap.Camera(camera_id=i + 1, model="PINHOLE", width=width, height=height, params=parameters)
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=str(i), keypoints=tracks.xy[seen], camera_id=i + 1, image_id=i + 1)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(world_to_camera[:, :3]), world_to_camera[:, 3])
        model.add_image_with_trivial_frame(image, pose)
    ends = np.append(tracks.starts[1:], len(tracks.point))
    for xyz, start, end in zip(points, tracks.starts.tolist(), ends.tolist(), strict=True):
        elements = [
            pycolmap.TrackElement(int(photo) + 1, int(place))
            for photo, place in zip(tracks.photo[start:end], places[start:end], strict=True)
        ]
        model.add_point3D(xyz, pycolmap.Track(elements=elements))
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_principal_point = options.refine_extra_params = False
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    config = pycolmap.BundleAdjustmentConfig()
    for i in np.unique(tracks.photo).tolist():
        config.add_image(i + 1)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_ceres_bundle_adjuster(options, config, model).solve()
    return np.stack([model.images[i + 1].cam_from_world().matrix() for i in range(len(world_to_cameras))])


def _turned_like(world_to_cameras: FloatArray, given: FloatArray) -> FloatArray:
    """The cameras, moved, turned and scaled together as near to the given ones as possible, all `[N, 3, 4]`."""
    # By the rotations first: those of cameras on a line say what their places do not.
    u, _, vh = np.linalg.svd(np.einsum("nki,nkj->ij", world_to_cameras[:, :, :3], given[:, :, :3]))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vh)]) @ vh  # from the given world to the adjusted one
    rotations = world_to_cameras[:, :, :3] @ turn
    places, wanted = (
        -np.einsum("nji,nj->ni", R, cameras[:, :, 3])
        for R, cameras in ((rotations, world_to_cameras), (given[:, :, :3], given))
    )
    spread, wanted_spread = places - places.mean(axis=0), wanted - wanted.mean(axis=0)
    scale = (spread * wanted_spread).sum() / max((spread**2).sum(), 1e-12)
    moved = scale * spread + wanted.mean(axis=0)
    return np.concatenate([rotations, -rotations @ moved[..., None]], axis=2)
