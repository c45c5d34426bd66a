# SPDX-License-Identifier: Apache-2.0
"""Geometry of meshes for baking and file formats: validation, welded vertices, normals, change of frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Int64

from img3d_assets.gaussian_frames import points_in_original_frame
from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError


def check_mesh(mesh: Mesh) -> None:
    """Raises InputError if the mesh has no faces, non-finite values, or faces with invalid indices."""
    if len(mesh.faces) == 0:
        raise InputError("The mesh has no faces: there is nothing to write.")
    if not (np.isfinite(mesh.vertices).all() and np.isfinite(mesh.colors).all()):
        raise InputError("The mesh has vertices or colours that are not finite numbers.")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise InputError("The mesh is damaged: faces refer to vertices that do not exist.")


def welded(mesh: Mesh) -> tuple[Int64[np.ndarray, "V"], Int64[np.ndarray, "N"]]:
    """Merges vertices at the same position: the indices of those to keep, and for each vertex its index among them.

    Texture coordinates need copies of vertices along the seams of an atlas. Formats that index positions and texture
    coordinates separately do not, and a closed surface stays closed in them.
    """
    _, kept, of_vertex = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
    return kept, of_vertex.reshape(-1)


def vertex_normals(mesh: Mesh) -> Float32[np.ndarray, "N 3"]:
    """Outward unit normals: area-weighted means over the faces around each position, equal for copies of a vertex."""
    kept, of_vertex = welded(mesh)
    corners = of_vertex[mesh.faces]
    normals = np.zeros((len(kept), 3))
    face_normals = area_normals(mesh)
    for axis in range(3):
        for corner in corners.T:
            normals[:, axis] += np.bincount(corner, face_normals[:, axis], len(kept))
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    # If the faces' normals cancel out or have no area, any direction will do; files need one.
    normals = np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1), [0.0, 0, 1])
    return normals[of_vertex].astype(np.float32)


def area_normals(mesh: Mesh) -> Float[np.ndarray, "F 3"]:
    """Normals of the faces, with the face's area as length."""
    a, b, c = (mesh.vertices[corner].astype(np.float64) for corner in mesh.faces.T)
    return np.cross(b - a, c - a) / 2


def in_frame(mesh: Mesh, transform: Float[np.ndarray, "3 4"], scale: float) -> Mesh:
    """Transforms a mesh to the frame of the photos' original poses, in double precision; `up` becomes unknown.

    Args:
        mesh: The mesh in Nerfstudio's normalised frame.
        transform: Nerfstudio's dataparser_transform, from the original frame; its 3x3 part is a rotation.
        scale: Nerfstudio's dataparser_scale, applied after the transform.
    """
    vertices = points_in_original_frame(mesh.vertices.astype(np.float64), transform, scale)
    return replace(mesh, vertices=vertices, up=None)
