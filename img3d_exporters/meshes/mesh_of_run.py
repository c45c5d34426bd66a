# SPDX-License-Identifier: Apache-2.0
"""From pictures with depth to meshes: one surface, and of it as many levels of detail as wanted, each painted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from img3d_assets.mesh import Mesh
from img3d_assets.selection import Point
from img3d_base.errors import InputError
from img3d_exporters.meshes.cleaning import cleaned, decimated, watertight
from img3d_exporters.meshes.depth_fusion import fused, region_of
from img3d_exporters.meshes.poisson import poisson_surface
from img3d_exporters.meshes.surface_views import SurfaceViews
from img3d_exporters.meshes.texture_baking import MIN_TEXTURE, baked
from img3d_exporters.meshes.vertex_colors import colored

LOD_FACES, LOD_TEXTURE = 4, 2
"""How many times fewer faces, and how many times narrower a texture, a level of detail has than the one before."""
MAX_LODS = 6
RESOLUTIONS = range(16, 2049)
COLOR_TOLERANCE = 3.0
"""Voxels between a vertex and the depth at which a picture shows it."""


@dataclass(frozen=True)
class MeshOptions:
    """What a mesh is to be like; names and meaning are those of `img3d-export mesh`."""

    surface: Literal["tsdf", "poisson"] = "tsdf"
    resolution: int = 192
    faces: int = 100_000
    watertight: bool = False
    texture_size: int = 2048
    lods: int = 1
    crop_min: Point | None = None
    crop_max: Point | None = None

    def __post_init__(self) -> None:
        """Raises InputError for values that make no sense."""
        if self.resolution not in RESOLUTIONS:
            raise InputError(
                f"--resolution is {self.resolution}: it can be {RESOLUTIONS.start} to {RESOLUTIONS.stop - 1}."
            )
        if not 1 <= self.lods <= MAX_LODS:
            raise InputError(f"--lods is {self.lods}: it can be 1 to {MAX_LODS}.")
        if self.faces < 4 * LOD_FACES ** (self.lods - 1):
            raise InputError(f"--faces is {self.faces}: too few for {self.lods} levels of detail.")


def level_paths(output: Path, lods: int) -> list[Path]:
    """chair.glb, chair_lod1.glb, chair_lod2.glb, …"""
    return [output, *(output.with_name(f"{output.stem}_lod{level}{output.suffix}") for level in range(1, lods))]


def levels_of_detail(views: SurfaceViews, paint: SurfaceViews | None, options: MeshOptions) -> Iterator[Mesh]:
    """The finest mesh first.

    Args:
        views: Their depth makes the surface and their colours those of its vertices.
        paint: Make the texture; None for none.
        options: All of them in the views' world.

    Raises:
        InputError: There is no surface, or it could not be made watertight.
    """
    pictures = list(views)
    region = region_of(pictures, options.crop_min, options.crop_max)
    voxel = (region.high - region.low).max() / options.resolution
    # From here on lengths are in voxels from the region's corner: single precision would not do far from the origin.
    shift = np.column_stack([np.eye(3), region.low / voxel])
    pictures = [picture.in_frame(shift, voxel) for picture in pictures]
    vertices, faces = cleaned(*fused(pictures, (region.high - region.low) / voxel))
    if options.surface == "poisson":
        vertices, faces = cleaned(*poisson_surface(vertices, faces, options.watertight))
    for level in range(options.lods):
        target = options.faces // LOD_FACES**level
        if options.watertight:
            vertices, faces = watertight(vertices, faces, target, detail=1.0)
        else:
            vertices, faces = decimated(vertices, faces, target)
        grey = np.full((len(vertices), 3), 0.5, np.float32)
        mesh = colored(Mesh(vertices, faces, grey), pictures, COLOR_TOLERANCE)
        if paint is not None:
            size = max(options.texture_size // LOD_TEXTURE**level, MIN_TEXTURE)
            mesh = baked(mesh, paint.in_frame(shift, voxel), size)
        yield replace(mesh, vertices=mesh.vertices * voxel + region.low)
