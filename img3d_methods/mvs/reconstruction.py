# SPDX-License-Identifier: Apache-2.0
"""Makes a textured mesh from photos: depth maps, a fused point cloud, a surface, a texture. The results of the stages
are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float32

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.cloud_surface import CloudSurfaceOptions, surface_of_cloud
from img3d_assets.meshing.texture_baking import baked
from img3d_assets.point_cloud import PointCloud
from img3d_base.console import print_line
from img3d_base.errors import counted
from img3d_base.progress import ProgressOfStages
from img3d_dataparsers.stereo.dense_workspace import DensePhoto, fused_cloud, photos_needed, write_workspace
from img3d_kernels.stereo.views import DepthMap
from img3d_methods.mvs.backdrop import Backdrop, backdrop_of
from img3d_methods.mvs.depth_stage import depth_maps
from img3d_methods.mvs.free_space import seen_through
from img3d_methods.mvs.photos import MvsPhotos
from img3d_methods.mvs.presets import MvsPreset
from img3d_methods.mvs.stage_cache import Arrays, StageCache

RECIPE = 7
"""Part of the cache key. Increment it with every change that alters depth maps, cloud or surface."""
CLOUD = {
    "points": ("float64", (None, 3)),
    "colors": ("float32", (None, 3)),
    "normals": ("float32", (None, 3)),
}
SURFACE = {"vertices": ("float64", (None, 3)), "faces": ("int64", (None, 3)), "colors": ("float32", (None, 3))}


@dataclass(frozen=True)
class Reconstruction:
    """The result of a reconstruction, in the training world (z up)."""

    mesh: Mesh
    cloud: PointCloud
    """The fused points of the depth maps."""
    covered: float
    """Fraction of the photos' pixels, without masked ones, whose depth is known."""
    background: Float32[np.ndarray, "3"]
    """Mean sRGB colour of the pixels without depth, in [0, 1]."""
    backdrop: Backdrop
    """What these pixels show, on a surface around the scene."""


def cache_of(photos: MvsPhotos, preset: MvsPreset, folder: Path) -> StageCache:
    """The cache of the depth maps of these photos.

    Args:
        photos: The photos.
        preset: Trades time for quality; part of the key.
        folder: The folder of caches.
    """
    recipe = f"{RECIPE} {preset.num_sources} {preset.geometric_passes}"
    return StageCache(folder / f"mvs-{photos.fingerprint(recipe)}")


def reconstructed(photos: MvsPhotos, preset: MvsPreset, cache: StageCache) -> Reconstruction:
    """Makes a textured mesh from photos. Stages whose results are in the cache are not repeated.

    Args:
        photos: The photos.
        preset: Trades time for quality.
        cache: Stores the results of the stages.

    Raises:
        InputError: The photos overlap too little.
    """
    maps = depth_maps(photos, preset, cache)
    with ProgressOfStages() as progress:
        progress("Fusing depth maps", 0, 1)
        cloud = PointCloud(**cache.kept("cloud", CLOUD, lambda: _cloud(photos, preset, maps)))
        progress("Fitting the surface", 0, 1)
        name = f"surface-{preset.max_points}-{preset.faces}"
        surface = cache.kept(name, SURFACE, lambda: _surface(cloud, preset, photos, maps))
    mesh = baked(Mesh(**surface, up="z"), photos.paint(maps), preset.texture_size)
    covered, background = _coverage(photos, maps)
    print_line(
        f"Reconstructed {covered:.0%} of the photos' area: {counted(len(cloud), 'point')}, "
        f"{counted(len(mesh.faces), 'triangle')}"
    )
    points, mean = torch.from_numpy(cloud.points), torch.from_numpy(background)
    return Reconstruction(
        mesh, cloud, covered, background, backdrop_of(points, photos.colors, photos.views, maps, mean)
    )


def _cloud(photos: MvsPhotos, preset: MvsPreset, maps: list[DepthMap]) -> Arrays:
    """The depth maps fused by COLMAP, which reads them from a dense workspace."""
    each = zip(photos.colors, photos.views, maps, strict=True)
    dense = [DensePhoto(f"{i:05d}.png", rgb, view, found) for i, (rgb, view, found) in enumerate(each)]
    with TemporaryDirectory() as folder:
        write_workspace(Path(folder), dense, photos.sources(preset.num_sources))
        cloud = fused_cloud(Path(folder), photos_needed(photos.views))
    return {"points": cloud.points, "colors": cloud.colors, "normals": cloud.normals}


def _surface(cloud: PointCloud, preset: MvsPreset, photos: MvsPhotos, maps: list[DepthMap]) -> Arrays:
    options = CloudSurfaceOptions(preset.max_points, preset.faces)
    mesh = surface_of_cloud(cloud, options, lambda points: seen_through(points, photos.views, maps))
    return {
        "vertices": mesh.vertices.astype(np.float64),
        "faces": mesh.faces.astype(np.int64),
        "colors": mesh.colors,
    }


def _coverage(photos: MvsPhotos, maps: list[DepthMap]) -> tuple[float, Float32[np.ndarray, "3"]]:
    """The fraction of unmasked pixels with depth, and the mean colour of the others."""
    wanted = known = 0
    total, count = np.zeros(3), 0
    for rgb, view, found in zip(photos.colors, photos.views, maps, strict=True):
        used = np.ones(view.size, bool) if view.mask is None else view.mask.numpy()
        there = found.depth.numpy() > 0
        wanted, known = wanted + int(used.sum()), known + int((used & there).sum())
        others = rgb[used & ~there]
        total, count = total + others.sum(axis=0), count + len(others)
    background = total / count / 255 if count else np.ones(3)
    return known / max(wanted, 1), background.astype(np.float32)
