# SPDX-License-Identifier: Apache-2.0
"""Makes meshes from pictures with depth: one surface, in any number of levels of detail, each with its own texture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from img3d_assets.field import Field
from img3d_assets.mesh import Mesh
from img3d_assets.meshing.cleaning import cleaned, decimated, watertight
from img3d_assets.meshing.depth_fusion import fused, region_of
from img3d_assets.meshing.field_surface import colors_at, painted, surface_of
from img3d_assets.meshing.poisson import poisson_surface
from img3d_assets.meshing.texture_baking import MIN_TEXTURE, baked
from img3d_assets.meshing.vertex_colors import colored
from img3d_assets.splat_editing.selection import Point
from img3d_base.errors import InputError
from img3d_exporters.meshes.surface_views import SurfaceViews

LOD_FACES, LOD_TEXTURE = 4, 2
"""Factors by which each level of detail has fewer faces and a narrower texture than the one before."""
MAX_LODS = 6
RESOLUTIONS = range(16, 2049)
COLOR_TOLERANCE = 3.0
"""Maximum distance in voxels of a vertex from the depth of a picture that colours it."""


Surface = Literal["auto", "density", "tsdf", "poisson"]
"""How a surface is made; "auto" is "density" for a field, "tsdf" for everything else."""
MAX_FIELD_RESOLUTION = 512
"""Largest resolution for fields, whose samples all lie in memory."""


@dataclass(frozen=True)
class MeshOptions:
    """Options of a mesh, named as in `img3d-export mesh`."""

    surface: Surface = "auto"
    resolution: int = 192
    faces: int = 100_000
    watertight: bool = False
    texture_size: int = 2048
    lods: int = 1
    crop_min: Point | None = None
    crop_max: Point | None = None

    def __post_init__(self) -> None:
        """Checks the values; raises InputError."""
        if self.resolution not in RESOLUTIONS:
            raise InputError(
                f"--resolution is {self.resolution}: it has to be {RESOLUTIONS.start} to {RESOLUTIONS.stop - 1}."
            )
        if not 1 <= self.lods <= MAX_LODS:
            raise InputError(f"--lods is {self.lods}: it has to be 1 to {MAX_LODS}.")
        if self.faces < 4 * LOD_FACES ** (self.lods - 1):
            raise InputError(f"--faces is {self.faces}: too few for {self.lods} levels of detail.")


def level_paths(output: Path, lods: int) -> list[Path]:
    """Paths of the levels of detail: chair.glb, chair_lod1.glb, chair_lod2.glb, …"""
    return [output, *(output.with_name(f"{output.stem}_lod{level}{output.suffix}") for level in range(1, lods))]


def levels_of_detail(views: SurfaceViews, paint: SurfaceViews | None, options: MeshOptions) -> Iterator[Mesh]:
    """Makes the levels of detail, the finest one first.

    Args:
        views: Pictures whose depth determines the surface and whose colours those of the vertices.
        paint: Pictures for the texture; None for no texture.
        options: Crop corners are in the views' world.

    Raises:
        InputError: There is no surface, or it could not be made watertight.
    """
    pictures = list(views)
    region = region_of(pictures, options.crop_min, options.crop_max)
    voxel = (region.high - region.low).max() / options.resolution
    # From here on lengths are in voxels from the corner of the region, since single precision is too coarse far from
    # the origin.
    shift = np.column_stack([np.eye(3), region.low / voxel])
    pictures = [picture.in_frame(shift, voxel) for picture in pictures]
    vertices, faces = cleaned(*fused(pictures, (region.high - region.low) / voxel))
    if options.surface == "poisson":
        vertices, faces = cleaned(*poisson_surface(vertices, faces, options.watertight))
    for level in range(options.lods):
        vertices, faces = _reduced(vertices, faces, level, options)
        grey = np.full((len(vertices), 3), 0.5, np.float32)
        mesh = colored(Mesh(vertices, faces, grey), pictures, COLOR_TOLERANCE)
        if paint is not None:
            mesh = baked(mesh, paint.in_frame(shift, voxel), _texture_size(level, options))
        yield replace(mesh, vertices=mesh.vertices * voxel + region.low)


def levels_of_field(field: Field, textured: bool, options: MeshOptions) -> Iterator[Mesh]:
    """Makes the levels of detail of a field's own surface, the finest one first. Colours are the field's.

    Args:
        field: The field.
        textured: Whether a texture is wanted beside the vertex colours.
        options: Crop corners are in the field's world.

    Raises:
        InputError: There is no surface, the resolution is too high, or it could not be made watertight.
    """
    if options.resolution > MAX_FIELD_RESOLUTION:
        raise InputError(f"--resolution is {options.resolution}: a field's mesh can have {MAX_FIELD_RESOLUTION}.")
    surface = surface_of(field, options.resolution)
    low = surface.vertices.min(axis=0).astype(np.float64)
    voxel = float((field.bounds[1] - field.bounds[0]).max()) / options.resolution
    inside = np.ones(len(surface.vertices), bool)
    if options.crop_min is not None:
        inside &= (surface.vertices >= options.crop_min).all(axis=1)
    if options.crop_max is not None:
        inside &= (surface.vertices <= options.crop_max).all(axis=1)
    faces = surface.faces[inside[surface.faces].all(axis=1)]
    if len(faces) == 0:
        raise InputError("There is no surface between --crop-min and --crop-max.")
    # In voxels, as the cleaning expects.
    vertices, faces = cleaned((surface.vertices - low) / voxel, faces)
    for level in range(options.lods):
        vertices, faces = _reduced(vertices, faces, level, options)
        placed = (vertices * voxel + low).astype(np.float32)
        color_at = partial(colors_at, field)
        mesh = Mesh(placed, faces, color_at(placed), up=field.up)
        yield painted(mesh, color_at, _texture_size(level, options)) if textured else mesh


def _reduced(
    vertices: np.ndarray, faces: np.ndarray, level: int, options: MeshOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a level of detail, from that of the level before; lengths in voxels."""
    target = options.faces // LOD_FACES**level
    if options.watertight:
        return watertight(vertices, faces, target, detail=1.0)
    return decimated(vertices, faces, target)


def _texture_size(level: int, options: MeshOptions) -> int:
    """Width and height in pixels of a level's texture."""
    return max(options.texture_size // LOD_TEXTURE**level, MIN_TEXTURE)
