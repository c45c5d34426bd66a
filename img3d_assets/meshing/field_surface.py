# SPDX-License-Identifier: Apache-2.0
"""The surface of a field where its density has a given value, by marching cubes (Lorensen and Cline 1987, in the
variant of Lewiner et al. 2003).

The field is sampled on a lattice, coarse to fine: a cell of a coarse lattice is divided only if the surface may pass
through it. The result is that of the dense lattice as long as no part of the object is too small for a coarse cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy.ndimage import maximum_filter, minimum_filter

from img3d_assets.field import Field
from img3d_assets.mesh import Mesh
from img3d_assets.meshing.uv_atlas import texels_of, unwrapped, with_gutters
from img3d_base.errors import InputError

STRIDES = (4, 2, 1)
"""Strides of the lattices, from coarse to fine."""
SLACK = 0.5
"""A cell is divided if the logarithm of the surface's density is within the range of the logarithms around the cell,
extended on both sides by this fraction of the range."""
MIN_DENSITY, MAX_DENSITY = 1e-12, 1e30
"""Range to which densities are limited before logarithms are taken."""

DensityAt = Callable[[Float32[np.ndarray, "N 3"]], Float32[np.ndarray, "N"]]
"""Densities at N world coordinates."""
ColorAt = Callable[[Float[np.ndarray, "N 3"]], Float32[np.ndarray, "N 3"]]
"""Colours at N world coordinates, sRGB in [0, 1]."""


def surface_of(field: Field, resolution: int, level: float | None = None, dense: bool = False) -> Mesh:
    """The surface, with vertex colours.

    Args:
        field: A field.
        resolution: Samples along each side of its bounds, both ends included.
        level: Density of the surface per world unit; None for the field's own.
        dense: Evaluate every sample.

    Raises:
        InputError: The density is below this value everywhere, or above it everywhere.
    """
    from skimage.measure import marching_cubes

    low, high = (corner.cpu().numpy().astype(np.float64) for corner in field.bounds)
    device = field.bounds.device
    level = field.surface_density if level is None else level

    def density_at(points: Float32[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N"]:
        return field.query(torch.from_numpy(points).to(device))[0].cpu().numpy()

    volume = sampled(density_at, low, high, resolution, level, (1,) if dense else STRIDES)
    if not volume.min() < level < volume.max():
        amount = "is nowhere dense enough for" if volume.max() <= level else "fills its whole box, without"
        raise InputError(f"There is nothing to make a mesh of: the field {amount} a surface.")
    # The classic tables, as in torchmcubes: one vertex on each crossed edge and no others.
    vertices, faces, _, _ = marching_cubes(volume, level, gradient_direction="ascent", method="lorensen")
    vertices = (low + vertices.astype(np.float64) * (high - low) / (resolution - 1)).astype(np.float32)
    return Mesh(vertices, faces.astype(np.int64), colors_at(field, vertices), up=field.up)


def colors_at(field: Field, points: Float[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N 3"]:
    """The field's colours, sRGB in [0, 1]."""
    queried = field.query(torch.from_numpy(points.astype(np.float32)).to(field.bounds.device))[1]
    return queried.clamp(0, 1).cpu().numpy()


def painted(mesh: Mesh, color_at: ColorAt, texture_size: int) -> Mesh:
    """The mesh with texture coordinates and a texture in a field's colours; vertices are duplicated along seams."""
    mesh = unwrapped(mesh, texture_size)
    texels = texels_of(mesh, texture_size)
    colors = color_at(texels.interpolated(mesh.vertices, mesh))
    texture = np.zeros((texture_size * texture_size, 3), np.uint8)
    texture[texels.pixels] = np.round(colors * 255)
    mesh.texture = with_gutters(texture.reshape(texture_size, texture_size, 3), texels.pixels)
    return mesh


def sampled(
    density_at: DensityAt,
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    resolution: int,
    level: float,
    strides: tuple[int, ...] = STRIDES,
) -> Float32[np.ndarray, "R R R"]:
    """Densities on the lattice of `resolution` samples a side from `low` to `high`. Away from the surface, only whether
    they are above or below `level` is right.

    Args:
        density_at: The field.
        low: Lower corner.
        high: Upper corner.
        resolution: Number of samples R along each side.
        level: Density of the surface.
        strides: Strides of the lattices, the last one 1. Coarse ones are left out where they would have no cells.
    """
    sides = [np.linspace(a, b, resolution).astype(np.float32) for a, b in zip(low, high, strict=True)]
    strides = tuple(stride for stride in strides if stride == 1 or resolution > 2 * stride)
    at = _lattice(resolution, strides[0])
    volume = _evaluated(density_at, sides, at, np.ones((len(at),) * 3, bool))
    for stride in strides[1:]:
        finer = _lattice(resolution, stride)
        known = np.isin(finer, at)
        wanted = _at_corners(_crossed(volume, level), at, finer)
        wanted[np.ix_(known, known, known)] = False
        before = np.searchsorted(at, finer, side="right") - 1
        volume = volume[np.ix_(before, before, before)]
        volume[wanted] = _evaluated(density_at, sides, finer, wanted)[wanted]
        at = finer
    return volume


def _lattice(resolution: int, stride: int) -> Int64[np.ndarray, "A"]:
    """Every `stride`-th sample of a side, and the last one."""
    return np.union1d(np.arange(0, resolution, stride), [resolution - 1])


def _evaluated(
    density_at: DensityAt,
    sides: list[Float32[np.ndarray, "R"]],
    at: Int64[np.ndarray, "A"],
    wanted: Bool[np.ndarray, "A A A"],
) -> Float32[np.ndarray, "A A A"]:
    """Densities where they are wanted, 0 elsewhere."""
    values = np.zeros(wanted.shape, np.float32)
    x, y, z = np.nonzero(wanted)
    points = np.stack([side[at[index]] for side, index in zip(sides, (x, y, z), strict=True)], axis=1)
    values[x, y, z] = np.clip(density_at(points), 0, MAX_DENSITY)
    return values


def _crossed(volume: Float32[np.ndarray, "A A A"], level: float) -> Bool[np.ndarray, "C C C"]:
    """Cells through which the surface may pass, judging by their corners and those of the cells around them."""
    logs = np.log(np.maximum(volume, MIN_DENSITY))
    # A filter of 4 samples from the one before a cell's lower corner to the one after its upper corner.
    lowest = minimum_filter(logs, size=4, mode="nearest", origin=-1)[:-1, :-1, :-1]
    highest = maximum_filter(logs, size=4, mode="nearest", origin=-1)[:-1, :-1, :-1]
    slack = SLACK * (highest - lowest)
    target = np.log(max(level, MIN_DENSITY))
    return (lowest - slack <= target) & (highest + slack >= target)


def _at_corners(
    cells: Bool[np.ndarray, "C C C"], at: Int64[np.ndarray, "A"], finer: Int64[np.ndarray, "F"]
) -> Bool[np.ndarray, "F F F"]:
    """Samples of the finer lattice that are inside or on the border of one of the coarse cells."""
    after = np.minimum(np.searchsorted(at, finer, side="right") - 1, len(at) - 2)
    before = np.maximum(np.searchsorted(at, finer, side="left") - 1, 0)
    found = cells
    for axis in range(3):
        found = found.take(before, axis) | found.take(after, axis)
    return found
