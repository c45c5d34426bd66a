# SPDX-License-Identifier: Apache-2.0
"""Seed points found in posed photos: triangulated features, and dense points of coarse stereo, computed once and kept.

Triangulation also tells whether the poses fit the photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs

from img3d_base.atomic_files import cache_folders
from img3d_base.console import print_line
from img3d_base.errors import counted, warn
from img3d_dataparsers.image_dataset import UPRIGHT
from img3d_dataparsers.images.camera_sizes import at_most
from img3d_dataparsers.posed_photos import SeedPoints
from img3d_dataparsers.seeds.seed_cache import fingerprint, kept_points
from img3d_dataparsers.usable_photos import UsablePhoto


class PosesContradictedError(Exception):
    """The photos' features contradict the given poses."""

    def __init__(self, misfit: float) -> None:
        super().__init__(misfit)
        self.misfit = misfit


def with_points_of_photos(
    known: SeedPoints | None,
    folder: Path,
    cache_dir: Path | None,
    photos: list[UsablePhoto],
    outputs: DataparserOutputs,
    with_stereo: bool,
    check_poses: bool,
) -> SeedPoints | None:
    """Adds points found in the photos, if there are enough, to the known ones; in the frames' coordinates.

    Args:
        known: Points of the data set; if None, there is a warning if too few can be triangulated.
        folder: The data set's folder.
        cache_dir: Where to cache them; None for beside the data.
        photos: The photos to train on.
        outputs: The same photos, with cameras at full size.
        with_stereo: Whether to add dense points to the triangulated ones.
        check_poses: Whether to stop at poses that do not fit the photos.

    Raises:
        PosesContradictedError: They do not.
    """
    from img3d_dataparsers.seeds.triangulation import MIN_POINTS, RECIPE

    def make() -> SeedPoints:
        print_line(f"Triangulating seed points from {len(photos)} photos")
        return triangulated(outputs, photos, list(range(len(photos))), check_poses)

    points = kept_points(
        cache_folders(folder, cache_dir), fingerprint(folder, photos, f"{RECIPE} {outputs.alpha_color}"), make
    )
    if with_stereo:
        points = _with_dense(points, folder, cache_dir, photos, outputs)
    if len(points[0]) < MIN_POINTS:
        if known is None:
            few = f"only {counted(len(points[0]), 'point')} could be triangulated from the photos"
            warn(f"{few}; training starts from random points")
        return known
    if known is None:
        return points
    return np.concatenate([known[0], points[0]]), np.concatenate([known[1], points[1]])


def _with_dense(
    sparse: SeedPoints,
    folder: Path,
    cache_dir: Path | None,
    photos: list[UsablePhoto],
    outputs: DataparserOutputs,
) -> SeedPoints:
    """Adds points from coarse stereo between the photos to triangulated ones; in the frames' coordinates.

    Args:
        sparse: Points triangulated from the photos.
        folder: The data set's folder.
        cache_dir: Where to cache them; None for beside the data.
        photos: The photos to train on.
        outputs: The same photos, with cameras at full size.
    """
    from img3d_dataparsers.image_dataset import Img3dImageDataset
    from img3d_dataparsers.seeds.dense import IMAGE_SIZE, RECIPE, dense_points

    def make() -> SeedPoints:
        print_line(f"Computing dense seed points from {len(photos)} photos by coarse stereo")
        some = photos_at_most(outputs, photos, list(range(len(photos))), IMAGE_SIZE)
        return dense_points(Img3dImageDataset(some), np.stack([photo.camera_to_world for photo in photos]), sparse[0])

    recipe = f"dense {RECIPE} {outputs.alpha_color} {len(sparse[0])}"
    dense = kept_points(cache_folders(folder, cache_dir), fingerprint(folder, photos, recipe), make)
    return np.concatenate([sparse[0], dense[0]]), np.concatenate([sparse[1], dense[1]])


def triangulated(
    outputs: DataparserOutputs, photos: Sequence[UsablePhoto], indices: list[int], check_poses: bool
) -> SeedPoints:
    """Triangulates points from some of the photos, in the frames' coordinates.

    Args:
        outputs: The photos, with cameras at full size.
        photos: The same photos.
        indices: The photos to use; of many only some are.
        check_poses: Whether to stop at poses that do not fit the photos.

    Raises:
        PosesContradictedError: They do not.
    """
    # Imported late: most data sets have points.
    from img3d_dataparsers.image_dataset import Img3dImageDataset
    from img3d_dataparsers.seeds.refinement import MAX_MISFIT
    from img3d_dataparsers.seeds.triangulation import IMAGE_SIZE, MAX_PHOTOS, triangulate

    chosen = np.linspace(0, len(indices) - 1, min(len(indices), MAX_PHOTOS)).round().astype(int)
    indices = [indices[i] for i in chosen.tolist()]
    some = photos_at_most(outputs, photos, indices, IMAGE_SIZE)
    points, misfit = triangulate(Img3dImageDataset(some), np.stack([photos[i].camera_to_world for i in indices]))
    if check_poses and misfit > MAX_MISFIT:
        raise PosesContradictedError(misfit)
    return points


def photos_at_most(
    outputs: DataparserOutputs, photos: Sequence[UsablePhoto], indices: list[int], size: int
) -> DataparserOutputs:
    """Some of the photos with cameras downscaled to at most `size` pixels along their longest side."""
    masks = outputs.mask_filenames
    return replace(
        outputs,
        image_filenames=[outputs.image_filenames[i] for i in indices],
        cameras=at_most(outputs.cameras[torch.tensor(indices)], size),
        mask_filenames=None if masks is None else [masks[i] for i in indices],
        metadata={**outputs.metadata, UPRIGHT: [photos[i].upright for i in indices]},
    )
