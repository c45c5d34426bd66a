# SPDX-License-Identifier: Apache-2.0
"""From matches to cameras and points: COLMAP's mappers, then bundle adjustment that also finds the principal point.

Runs in a separate process (`python -m img3d_dataparsers.sfm.mapping WORK_FOLDER`), because COLMAP's global mapper
cannot be interrupted from Python, terminates the process when it fails, and writes its own log.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from itertools import count
from pathlib import Path

import numpy as np

from img3d_dataparsers.sfm.colmap_library import pycolmap
from img3d_dataparsers.sfm.support import MIN_POINTS, NO_SUPPORT, is_homography, support_of

MAPPERS = ("global", "incremental", "forward motion")
"""The mappers in the order in which they are tried."""
SEED = 0
"""Seed of COLMAP's random generators."""
OUTLIER, MAX_OUTLIER = 2e-3, 4.0
"""A feature with a larger reprojection error is an outlier: relative to the photo's longer side, and in pixels
(COLMAP's value). A smaller limit would reject rolling-shutter photos."""
MAX_REPROJECTION_ERROR = 1e-3
"""Largest reprojection error of a feature in the result, as a share of the photo's longest side: 2 pixels in 2000."""
TRACKS_PER_PHOTO = 500
"""Number of the longest tracks by which the global mapper places a photo. With all tracks it takes three times as long
(150 photos, 4096 features each) for the same cameras within 0.01 mm. The other points are triangulated afterwards."""
MANY_PHOTOS, NEARLY_ALL = 100, 0.95
"""With more than so many photos, slower mappers are tried only if less than this share has supporting points."""
MIN_ANGLE = 1.5
"""Smallest angle in degrees between the rays of a point, COLMAP's value."""
MIN_MODEL_SIZE = 3
"""Fewest photos in a reconstruction."""
MAX_PRINCIPAL_POINT_ERROR = 5e-3
"""Largest standard deviation of a principal point that counts as determined, as a share of the photo's longest side."""
MAX_PRINCIPAL_POINT_SHIFT = 0.1
"""Largest plausible distance of the principal point from the photo's centre, as a share of its longest side. Cropped
photos may exceed it, but that cannot be distinguished from an error."""
MAX_COVARIANCE_PHOTOS = 60
"""Largest number of photos from which the covariance of the intrinsics is computed."""


def main(work: Path) -> None:
    """Reconstructs `work/database.db`; writes the best model and its mapper's name to `work/model`."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    pycolmap.set_random_seed(SEED)
    database_path = work / "database.db"
    with pycolmap.Database.open(database_path) as database:
        num_images = database.num_images()
        has_priors = any(camera.has_prior_focal_length for camera in database.read_all_cameras())
        geometries = [geometry for geometry in database.read_two_view_geometries()[1] if len(geometry.inlier_matches)]
        from_one_place = all(is_homography(geometry) for geometry in geometries)
    if not has_priors:
        _say("focal lengths")
        options = pycolmap.ViewGraphCalibrationOptions()
        options.random_seed = SEED
        pycolmap.calibrate_view_graph(database_path, options)

    enough = num_images if num_images <= MANY_PHOTOS else NEARLY_ALL * num_images
    best, support, mapper = None, NO_SUPPORT, "none"
    for name, attempt in zip(MAPPERS, (_global, _incremental, _forward_motion), strict=True):
        _say(f"{name} mapper")
        output = work / f"models-{name.split()[0]}"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        for model in attempt(database_path, work, output).values():
            of_model = support_of(model)
            if best is None or of_model.strength > support.strength:
                best, support, mapper = model, of_model, name
        if support.supported >= enough or (from_one_place and not support.has_parallax):
            break
    if best is not None:
        _say("bundle adjustment")
        refine(best)
        leave_out_unsupported(best)
        temporary = work / "model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        best.write_binary(temporary)
        (temporary / "mapper").write_text(mapper)
        temporary.replace(work / "model")


def _say(stage: str) -> None:
    print(stage, flush=True)


def _end_with(parent: int) -> None:
    """Ends this process if its parent was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _global(database_path: Path, images: Path, output: Path) -> dict[int, pycolmap.Reconstruction]:
    """Runs GLOMAP (Pan et al. 2024)."""
    options = pycolmap.GlobalPipelineOptions()
    options.random_seed = SEED
    options.min_model_size = MIN_MODEL_SIZE
    options.mapper.track_required_tracks_per_view = TRACKS_PER_PHOTO
    return pycolmap.global_mapping(database_path, images, output, options)


def _incremental(database_path: Path, images: Path, output: Path) -> dict[int, pycolmap.Reconstruction]:
    """Runs COLMAP's incremental mapper (Schönberger and Frahm 2016)."""
    return _incremental_mapping("incremental mapper", database_path, images, output, _incremental_options())


def _forward_motion(database_path: Path, images: Path, output: Path) -> dict[int, pycolmap.Reconstruction]:
    """Runs the incremental mapper for cameras that move forward or hardly at all, which COLMAP's defaults reject."""
    options = _incremental_options()
    options.mapper.init_max_forward_motion = 1.0
    options.mapper.init_min_tri_angle = 4.0
    return _incremental_mapping("forward motion mapper", database_path, images, output, options)


def _incremental_mapping(
    name: str, database_path: Path, images: Path, output: Path, options: pycolmap.IncrementalPipelineOptions
) -> dict[int, pycolmap.Reconstruction]:
    tries = count(1)
    return pycolmap.incremental_mapping(
        database_path, images, output, options, next_image_callback=lambda: _say(f"{name}: photo {next(tries)}")
    )


def _incremental_options() -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = SEED
    options.min_model_size = MIN_MODEL_SIZE
    options.extract_colors = False
    return options


def refine(model: pycolmap.Reconstruction) -> None:
    """Bundle adjustment of all intrinsics that the photos determine; outlier points are removed.

    A principal point fixed at the centre, 0.5 % off, would rotate all cameras by 0.5 degrees (fountain-P11).
    """
    for camera in model.cameras.values():
        _free_distortion(camera)
    before = {camera_id: list(camera.params) for camera_id, camera in model.cameras.items()}
    deviations = _adjust(model, constant=[])
    lenses = {i: camera for i, camera in model.cameras.items() if not camera.is_spherical()}
    undetermined = [i for i, camera in lenses.items() if not _is_determined(camera, deviations.get(i))]
    if undetermined:
        for camera_id in undetermined:
            model.cameras[camera_id].params = before[camera_id]
        _adjust(model, constant=undetermined)
    _drop(model, MAX_REPROJECTION_ERROR * _longest(model))
    model.update_point_3d_errors()


def leave_out_unsupported(model: pycolmap.Reconstruction) -> None:
    """Deregisters photos that see hardly any points: their poses are unreliable."""
    points_per_photo = support_of(model).points_per_photo
    observations = pycolmap.ObservationManager(model)
    for image_id, num_points in points_per_photo.items():
        if num_points < MIN_POINTS:
            observations.deregister_frame(model.images[image_id].frame_id)


def _longest(model: pycolmap.Reconstruction) -> int:
    # A panorama has as many pixels per radian as a photo of 90 degrees and a quarter of its width.
    return max(
        camera.width // 4 if camera.is_spherical() else max(camera.width, camera.height)
        for camera in model.cameras.values()
    )


def _drop(model: pycolmap.Reconstruction, max_error: float) -> None:
    pycolmap.ObservationManager(model).filter_all_points3D(max(1.0, max_error), MIN_ANGLE)


def _free_distortion(camera: pycolmap.Camera) -> None:
    """Frees a second coefficient. Not with OPENCV, whose tangential coefficients would absorb the principal point."""
    if camera.is_spherical():
        return
    f, x, y, k = camera.params
    is_fisheye = camera.model == pycolmap.CameraModelId.SIMPLE_RADIAL_FISHEYE
    camera.model = pycolmap.CameraModelId.RADIAL_FISHEYE if is_fisheye else pycolmap.CameraModelId.RADIAL
    camera.params = [f, x, y, k, 0.0]


def _adjust(model: pycolmap.Reconstruction, constant: list[int]) -> dict[int, float]:
    """Runs bundle adjustment twice, removing outlier points after each run.

    Args:
        model: The reconstruction.
        constant: Ids of cameras whose intrinsics are kept constant.

    Returns:
        For each camera the standard deviation of its principal point in pixels, if it could be computed.
    """
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.HUBER
    for _ in range(2):
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, _problem(model, constant, None), model)
        adjuster.solve()
        _drop(model, min(MAX_OUTLIER, OUTLIER * _longest(model)))
    return {} if constant else _deviations(model, options)


def _problem(
    model: pycolmap.Reconstruction, constant: list[int], at_most: int | None
) -> pycolmap.BundleAdjustmentConfig:
    config = pycolmap.BundleAdjustmentConfig()
    ids = np.array(sorted(model.reg_image_ids()))
    if at_most is not None and len(ids) > at_most:
        ids = ids[np.linspace(0, len(ids) - 1, at_most).round().astype(int)]
    for image_id in ids.tolist():
        config.add_image(image_id)
    for camera_id in constant:
        config.set_constant_cam_intrinsics(camera_id)
    # Not TWO_CAMS_FROM_WORLD, with which COLMAP's covariances are meaningless (4.2.1).
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.THREE_POINTS)
    return config


def _deviations(model: pycolmap.Reconstruction, options: pycolmap.BundleAdjustmentOptions) -> dict[int, float]:
    """Standard deviations of the principal points in pixels, from a subset of the photos if there are many."""
    some = pycolmap.Reconstruction(model)  # a copy: adjusting a subset of the photos changes cameras and points
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(
        options, _problem(some, constant=[], at_most=MAX_COVARIANCE_PHOTOS), some
    )
    adjuster.solve()
    covariance = pycolmap.estimate_ba_covariance(pycolmap.BACovarianceOptions(), some, adjuster)
    if covariance is None:
        return {}
    model.update_point_3d_errors()
    noise = model.compute_mean_reprojection_error()
    deviations = {}
    for camera_id, camera in some.cameras.items():
        if camera.is_spherical():
            continue
        of_camera = covariance.get_other_params_cov(camera.params)
        if of_camera is not None:
            deviations[camera_id] = noise * float(np.sqrt(np.diag(of_camera)[1:3].max()))
    return deviations


def _is_determined(camera: pycolmap.Camera, deviation: float | None) -> bool:
    longest = max(camera.width, camera.height)
    shift = max(
        abs(camera.principal_point_x - camera.width / 2),
        abs(camera.principal_point_y - camera.height / 2),
    )
    return (
        deviation is not None
        and deviation < MAX_PRINCIPAL_POINT_ERROR * longest
        and shift < MAX_PRINCIPAL_POINT_SHIFT * longest
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
