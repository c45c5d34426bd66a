# SPDX-License-Identifier: Apache-2.0
"""Dense 3D points from depth maps that lie beside posed photos (LiDAR phones, depth cameras, monocular depth)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import Cameras

from img3d_base.errors import some_names, warn
from img3d_dataparsers.formats.capture_files import MAX_SCAN_POINTS
from img3d_dataparsers.pictures.reading import read_mask, read_photo
from img3d_dataparsers.posed_photos import FloatArray, SeedPoints
from img3d_dataparsers.threaded import in_threads
from img3d_dataparsers.usable_photos import UsablePhoto

UNIT = 1e-3
"""Of the values in a depth map, in units of the poses: millimetres and metres, Nerfstudio's depth_unit_scale_factor."""
MAX_PHOTOS = 200
"""Evenly chosen of larger sets, so that time stays bounded."""
MAX_JUMP = 0.05
"""Between neighbours, as a share of their depth: beyond it, a pixel mixes what lies before with what lies behind."""


def points_from_depth(photos: Sequence[UsablePhoto], cameras: Cameras) -> SeedPoints | None:
    """What the photos' depth maps see, at most MAX_SCAN_POINTS of it; None if there are no (readable) depth maps.

    Args:
        photos: those to train on; some may have no depth map.
        cameras: theirs `[N]`, at any size, OpenGL camera axes, in the world that the points are wanted in.
    """
    indices = [i for i, photo in enumerate(photos) if photo.depth_path is not None]
    indices = [indices[i] for i in np.linspace(0, len(indices) - 1, min(len(indices), MAX_PHOTOS)).astype(int)]
    if not indices:
        return None
    each = -(-MAX_SCAN_POINTS // len(indices))
    found = in_threads(lambda i: _seen(photos[i], cameras[i], each, seed=i), indices, "Reading depth maps")
    bad = [str(photos[i].depth_path) for i, points in zip(indices, found, strict=True) if points is None]
    if bad:
        warn(f"{len(bad)} depth maps do not exist or are damaged ({some_names(bad)}); they give no seed points")
    some = [points for points in found if points is not None]
    if not some:
        return None
    return np.concatenate([xyz for xyz, _ in some]), np.concatenate([rgb for _, rgb in some])


def _seen(photo: UsablePhoto, camera: Cameras, count: int, seed: int) -> SeedPoints | None:
    """At most `count` points of one photo, at random; None if its depth map cannot be read."""
    assert photo.depth_path is not None
    depth = read_depth(photo.depth_path)
    if depth is None:
        return None
    height, width = depth.shape
    usable = is_continuous(depth)
    if photo.mask_path is not None:
        usable &= read_mask(photo.mask_path, width, height, photo.upright, photo.image_path)
    rows, columns = np.nonzero(usable)
    if len(rows) > count:
        chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    # Nerfstudio's rays know every kind of lens. Depth is along the camera's axis, rays have unit length.
    scale = np.array([camera.height.item() / height, camera.width.item() / width])
    coords = torch.from_numpy((np.stack([rows, columns], axis=1) + 0.5) * scale).float()
    rays = camera.reshape((1,)).generate_rays(
        camera_indices=torch.zeros(len(coords), 1, dtype=torch.long), coords=coords
    )
    directions = rays.directions.double().numpy()
    cosines = directions @ -camera.camera_to_worlds[..., 2].reshape(3).double().numpy()
    xyz = rays.origins.double().numpy() + directions * (depth[rows, columns] / cosines)[:, None]
    return xyz, read_photo(photo.image_path, width, height, upright=photo.upright)[rows, columns, :3]


def read_depth(path: Path) -> FloatArray | None:
    """Depths `[H, W]` in units of the poses, 0 where unknown, of a 16-bit image or a NumPy file; None if unreadable."""
    try:
        values = (
            np.load(path, allow_pickle=False) if path.suffix == ".npy" else cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
        )
    except (EOFError, OSError, ValueError):
        return None
    if values is None or values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif":
        return None
    depth = values.astype(np.float64) * UNIT
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0.0)


def is_continuous(depth: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which pixels of a depth map `[H, W]` (0: unknown) have a depth that their neighbours to all four sides share."""
    padded = np.pad(depth, 1, mode="edge")
    neighbours = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return (depth > 0) & (np.abs(neighbours - depth) <= MAX_JUMP * depth).all(axis=0)
