# SPDX-License-Identifier: Apache-2.0
"""UV mapping: charts packed by xatlas, and the surface point under each texel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64, Num, Shaped

from img3d_assets.mesh import Mesh

MAX_PACKING = 1024
"""Maximum resolution at which charts are packed. Larger textures use the same layout, which saves time and makes
gutters wider, as mip maps need."""
PADDING = 2
"""Gap between charts, in texels of the packing."""
MAX_PIECE = 4096
"""Maximum number of faces for which xatlas makes charts at once: 100,000 together take five times as long, and give as
many charts."""
ROWS = 512
"""Rows of the texture that are processed at once."""


@dataclass
class Texels:
    """The T texels of a texture that lie on the surface."""

    pixels: Int64[np.ndarray, "T"]
    """Indices in the flattened texture, ascending."""
    faces: Int64[np.ndarray, "T"]
    """The face that covers each texel's centre."""
    weights: Float32[np.ndarray, "T 3"]
    """Barycentric coordinates in the face."""

    def __len__(self) -> int:
        return len(self.pixels)

    def interpolated(self, values: Shaped[np.ndarray, "N D"], mesh: Mesh) -> Float32[np.ndarray, "T D"]:
        """Interpolates vertex values at the texels."""
        corners = mesh.faces[self.faces]
        values = values.astype(np.float32)
        result = self.weights[:, :1] * values[corners[:, 0]]
        for i in (1, 2):
            result += self.weights[:, i : i + 1] * values[corners[:, i]]
        return result

    def __getitem__(self, chosen: Shaped[np.ndarray, "M"]) -> Texels:
        return Texels(self.pixels[chosen], self.faces[chosen], self.weights[chosen])


def unwrapped(mesh: Mesh, texture_size: int) -> Mesh:
    """The mesh with texture coordinates; vertices are duplicated along seams, and faces keep their order.

    Args:
        mesh: F faces, at least one; 100,000 take ten seconds.
        texture_size: Width and height of the texture.
    """
    import xatlas

    low = mesh.vertices.min(axis=0)  # single precision would be too coarse far from the origin
    vertices = (mesh.vertices - low).astype(np.float32)
    pieces = _pieces(vertices[mesh.faces].mean(axis=1), np.arange(len(mesh.faces)))
    atlas = xatlas.Atlas()
    of_piece = []
    for piece in pieces:
        used, numbered = np.unique(mesh.faces[piece], return_inverse=True)
        atlas.add_mesh(vertices[used], numbered.reshape(-1, 3).astype(np.uint32))
        of_piece.append(used)
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding = min(texture_size, MAX_PACKING), PADDING
    atlas.generate(xatlas.ChartOptions(), packing)

    faces = np.empty((len(mesh.faces), 3), np.int64)
    of_vertex, uvs, count = [], [], 0
    for i, (piece, used) in enumerate(zip(pieces, of_piece, strict=True)):
        copies, corners, coordinates = atlas[i]
        faces[piece] = corners.astype(np.int64) + count
        of_vertex.append(used[copies])
        uvs.append(coordinates)
        count += len(copies)
    chosen = np.concatenate(of_vertex)
    # The atlas is rarely square, but the texture is.
    stretch = np.array([atlas.width, atlas.height]) / max(atlas.width, atlas.height)
    return replace(
        mesh,
        vertices=mesh.vertices[chosen],
        faces=faces,
        colors=mesh.colors[chosen],
        uvs=(np.concatenate(uvs) * stretch).astype(np.float32),
    )


def _pieces(centers: Float32[np.ndarray, "F 3"], faces: Int64[np.ndarray, "M"]) -> list[Int64[np.ndarray, "_"]]:
    """Divides the faces by position into pieces of at most `MAX_PIECE`."""
    if len(faces) <= MAX_PIECE:
        return [faces]
    along = centers[faces][:, np.ptp(centers[faces], axis=0).argmax()]
    order = along.argsort(kind="stable")
    halves = np.array_split(faces[order], 2)
    return [piece for half in halves for piece in _pieces(centers, half)]


def texels_of(mesh: Mesh, texture_size: int) -> Texels:
    """The texels whose centres are covered by faces.

    Args:
        mesh: A mesh with texture coordinates.
        texture_size: Width and height of the texture.
    """
    import open3d

    assert mesh.uvs is not None
    # The faces are laid flat in the coordinates of the picture; a ray down at the centre of each texel finds its face.
    flat = np.zeros((len(mesh.uvs), 3), np.float32)
    flat[:, 0], flat[:, 1] = mesh.uvs[:, 0] * texture_size, (1 - mesh.uvs[:, 1]) * texture_size
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(flat, mesh.faces.astype(np.uint32))
    parts = []
    for start in range(0, texture_size, ROWS):
        rows = np.arange(start, min(start + ROWS, texture_size))
        rays = np.zeros((len(rows), texture_size, 6), np.float32)
        rays[..., 0], rays[..., 1] = np.arange(texture_size) + 0.5, rows[:, None] + 0.5
        rays[..., 2], rays[..., 5] = 1, -1
        hits = scene.cast_rays(open3d.core.Tensor(rays.reshape(-1, 6)))
        found = np.flatnonzero(np.isfinite(hits["t_hit"].numpy()))
        others = hits["primitive_uvs"].numpy()[found]
        weights = np.concatenate([1 - others.sum(axis=1, keepdims=True), others], axis=1)
        faces = hits["primitive_ids"].numpy()[found].astype(np.int64)
        parts.append((found + start * texture_size, faces, weights.astype(np.float32)))
    return Texels(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def with_gutters(texture: Num[np.ndarray, "H W 3"], filled: Int64[np.ndarray, "T"]) -> Num[np.ndarray, "H W 3"]:
    """Fills the rest of the texture with the colour of the nearest filled texel, so that filtering at charts' edges
    finds no other colours."""
    height, width = texture.shape[:2]
    return texture.reshape(-1, 3)[nearest_filled(height, width, filled)]


def nearest_filled(height: int, width: int, filled: Int64[np.ndarray, "T"]) -> Int64[np.ndarray, "H W"]:
    """The flat index of the nearest filled texel, for each texel of a texture.

    Args:
        height: Of the texture.
        width: Of the texture.
        filled: Flat indices of the filled texels, at least one.
    """
    import cv2

    empty = np.ones(height * width, np.uint8)
    empty[filled] = 0
    _, labels = cv2.distanceTransformWithLabels(
        empty.reshape(height, width), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = labels.reshape(-1).astype(np.int64)
    pixel_of_label = np.zeros(labels.max() + 1, np.int64)
    pixel_of_label[labels[filled]] = filled
    return pixel_of_label[labels].reshape(height, width)
