# SPDX-License-Identifier: Apache-2.0
"""Joining meshes that have colours or textures of their own into one mesh with one texture.

Files may have a material for each part; a `Mesh` has one texture, with coordinates in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from img3d_assets.color_values import linear_of_srgb, srgb_of_linear
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_sampling import texture_colors
from img3d_assets.quantised import bytes_of

MAX_TEXTURE = 8192
"""Largest side of a joined texture in pixels."""
GUTTER = 8
"""Pixels around each texture within a joined one, so that filtering does not mix neighbours."""
SWATCH = 4
"""Side in pixels of the square that represents one colour."""
UV_TOLERANCE = 1e-4
"""Texture coordinates outside [0, 1] by at most this much are attributed to rounding."""

Pixels = UInt8[np.ndarray, "H W 3"]


def joined(parts: Sequence[Mesh]) -> Mesh:
    """Joins parts into one mesh.

    Repeating textures are unrolled as far as the faces need it. If some parts have textures and others vertex colours,
    each face of the latter gets a single colour.

    Args:
        parts: At least one. Parts that share a texture must share the array.
    """
    if all(part.texture is None for part in parts):
        return _stacked([replace(part, uvs=None) for part in parts], None)
    by_texture: dict[int, list[Mesh]] = {}
    for part in parts:
        by_texture.setdefault(id(part.texture), []).append(part)
    groups = [_stacked(group, group[0].texture) for group in by_texture.values()]
    groups = [_with_swatches(group) if group.texture is None else _unrolled(group) for group in groups]
    return _with_texture_colors(groups[0] if len(groups) == 1 else _with_atlas(groups))


def _with_texture_colors(mesh: Mesh) -> Mesh:
    """Sets vertex colours from the texture, for formats without textures."""
    assert mesh.uvs is not None and mesh.texture is not None
    return replace(mesh, colors=texture_colors(mesh, mesh.uvs))


def _stacked(parts: Sequence[Mesh], texture: Pixels | None) -> Mesh:
    """Concatenates parts that have the same texture, or none."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    uvs = [part.uvs for part in parts if part.uvs is not None]
    return Mesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]),
        np.concatenate([part.colors for part in parts]),
        np.concatenate(uvs) if texture is not None else None,
        texture,
    )


def _picked(mesh: Mesh, vertices: Int64[np.ndarray, "M"], faces: Int64[np.ndarray, "F 3"]) -> Mesh:
    """The mesh with copies of its vertices, in a given order, and new faces."""
    uvs = None if mesh.uvs is None else mesh.uvs[vertices]
    return Mesh(mesh.vertices[vertices], faces, mesh.colors[vertices], uvs, mesh.texture)


def _unrolled(mesh: Mesh) -> Mesh:
    """Brings texture coordinates into [0, 1]: shifts faces by whole textures, and repeats the texture if that is not
    enough."""
    assert mesh.uvs is not None and mesh.texture is not None
    if mesh.uvs.min() >= -UV_TOLERANCE and mesh.uvs.max() <= 1 + UV_TOLERANCE:
        return replace(mesh, uvs=mesh.uvs.clip(0, 1))
    corners = mesh.uvs[mesh.faces].astype(np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    outside = (low < -UV_TOLERANCE) | (high > 1 + UV_TOLERANCE)
    shifts = np.where(outside, np.floor(low + UV_TOLERANCE), 0)
    keys = np.concatenate([mesh.faces.reshape(-1, 1), np.repeat(shifts, 3, axis=0)], axis=1)
    unique, faces = np.unique(keys, axis=0, return_inverse=True)
    mesh = _picked(mesh, unique[:, 0].astype(np.int64), faces.reshape(-1, 3))
    assert mesh.uvs is not None and mesh.texture is not None
    uvs = mesh.uvs - unique[:, 1:]
    columns, rows = np.ceil((high - shifts).max(axis=0) - UV_TOLERANCE).astype(np.int64).clip(1, MAX_TEXTURE)
    height, width = mesh.texture.shape[:2]
    tile = _resized(mesh.texture, min(width, MAX_TEXTURE // columns), min(height, MAX_TEXTURE // rows))
    uvs = (uvs / [columns, rows]).clip(0, 1).astype(np.float32)
    return replace(mesh, uvs=uvs, texture=np.tile(tile, (rows, columns, 1)))


def _with_swatches(mesh: Mesh) -> Mesh:
    """Converts vertex colours to a texture: one colour per face, the mean of its corners."""
    means = bytes_of(mesh.colors[mesh.faces].mean(axis=1))
    colors, of_face = np.unique(means, axis=0, return_inverse=True)
    side = int(np.ceil(np.sqrt(len(colors))))
    grid = np.zeros((side * side, 3), np.uint8)
    grid[: len(colors)] = colors
    texture = grid.reshape(side, side, 3).repeat(SWATCH, axis=0).repeat(SWATCH, axis=1)
    of_corner = np.repeat(of_face.reshape(-1), 3)
    mesh = _picked(mesh, mesh.faces.reshape(-1).astype(np.int64), np.arange(mesh.faces.size).reshape(-1, 3))
    rows, columns = np.divmod(of_corner, side)
    uvs = np.stack([(columns + 0.5) / side, 1 - (rows + 0.5) / side], axis=1).astype(np.float32)
    return replace(mesh, uvs=uvs, texture=texture)


def _with_atlas(parts: Sequence[Mesh]) -> Mesh:
    """Packs textures into one, on shelves of decreasing height."""
    textures = [part.texture for part in parts if part.texture is not None]
    scale = 1.0
    while True:
        sizes = [[max(1, int(scale * side)) for side in texture.shape[1::-1]] for texture in textures]
        corners, width, height = _shelves(sizes)
        if max(width, height) <= MAX_TEXTURE:
            break
        scale *= 0.9
    atlas = np.zeros((height, width, 3), np.uint8)
    placed = []
    for part, texture, (w, h), (x, y) in zip(parts, textures, sizes, corners, strict=True):
        assert part.uvs is not None
        padded = np.pad(_resized(texture, w, h), ((GUTTER, GUTTER), (GUTTER, GUTTER), (0, 0)), mode="edge")
        atlas[y : y + h + 2 * GUTTER, x : x + w + 2 * GUTTER] = padded
        u = (x + GUTTER + part.uvs[:, 0] * w) / width
        v = 1 - (y + GUTTER + (1 - part.uvs[:, 1]) * h) / height
        placed.append(replace(part, uvs=np.stack([u, v], axis=1).astype(np.float32), texture=atlas))
    return _stacked(placed, atlas)


def _shelves(sizes: Sequence[Sequence[int]]) -> tuple[list[tuple[int, int]], int, int]:
    """Packs rectangles with gutters: their upper left corners, and the total width and height."""
    outer = [(w + 2 * GUTTER, h + 2 * GUTTER) for w, h in sizes]
    width = max(*(w for w, _ in outer), int(np.sqrt(sum(w * h for w, h in outer))))
    corners, x, y, shelf = [(0, 0)] * len(outer), 0, 0, 0
    for i in sorted(range(len(outer)), key=lambda i: -outer[i][1]):
        w, h = outer[i]
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        corners[i], x, shelf = (x, y), x + w, max(shelf, h)
    return corners, width, y + shelf


def _resized(texture: Pixels, width: int, height: int) -> Pixels:
    if texture.shape[:2] == (height, width):
        return texture
    return cv2.resize(texture, (max(1, int(width)), max(1, int(height))), interpolation=cv2.INTER_AREA)


def tinted(texture: Pixels, color: Float32[np.ndarray, "3"]) -> Pixels:
    """A texture multiplied by a linear colour, as in the materials of glTF and USD."""
    if np.allclose(color, 1, atol=1e-3):
        return texture
    levels = linear_of_srgb(np.linspace(0, 1, 256)[:, None].repeat(3, axis=1))
    table = bytes_of(srgb_of_linear(levels * color))
    return np.stack([table[texture[..., channel], channel] for channel in range(3)], axis=-1)
