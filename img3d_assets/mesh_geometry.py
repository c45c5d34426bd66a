# SPDX-License-Identifier: Apache-2.0
"""What baking and file formats ask of a mesh: that it is one, its vertices without copies, which way it faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Int64

from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError


def check_mesh(mesh: Mesh) -> None:
    """Raises InputError where there is nothing to draw, or numbers that are none."""
    if len(mesh.faces) == 0:
        raise InputError("The mesh has no faces: there is nothing to write.")
    if not (np.isfinite(mesh.vertices).all() and np.isfinite(mesh.colors).all()):
        raise InputError("The mesh has vertices or colours that are not finite numbers.")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise InputError("The mesh has faces whose vertices it has not: it is damaged.")


def welded(mesh: Mesh) -> tuple[Int64[np.ndarray, "V"], Int64[np.ndarray, "N"]]:
    """Which vertices to keep, one for each place, and for each vertex which of those stands for it.

    Texture coordinates need copies of vertices along the seams of an atlas; formats that number positions and texture
    coordinates apart do not, and a closed surface stays closed in them.
    """
    _, kept, of_vertex = np.unique(mesh.vertices, axis=0, return_index=True, return_inverse=True)
    return kept, of_vertex.reshape(-1)


def vertex_normals(mesh: Mesh) -> Float32[np.ndarray, "N 3"]:
    """Unit normals, outward: of the faces around each place, weighted by their areas; copies of a vertex agree."""
    kept, of_vertex = welded(mesh)
    corners = of_vertex[mesh.faces]
    normals = np.zeros((len(kept), 3))
    face_normals = area_normals(mesh)
    for axis in range(3):
        for corner in corners.T:
            normals[:, axis] += np.bincount(corner, face_normals[:, axis], len(kept))
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    # Where faces cancel out, or have no area, any direction is as good; files must have one.
    normals = np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1), [0.0, 0, 1])
    return normals[of_vertex].astype(np.float32)


def area_normals(mesh: Mesh) -> Float[np.ndarray, "F 3"]:
    """Of each face, as long as it has area."""
    a, b, c = (mesh.vertices[corner].astype(np.float64) for corner in mesh.faces.T)
    return np.cross(b - a, c - a) / 2


def in_frame(mesh: Mesh, transform: Float[np.ndarray, "3 4"], scale: float) -> Mesh:
    """The mesh in another world, in double precision; nobody knows what is up there.

    Args:
        mesh: In the present world.
        transform: From that world to the present one, but for the scale, as Nerfstudio's dataparser_transform; its left
            part is a rotation.
        scale: Applied after the transform, as Nerfstudio's dataparser_scale.
    """
    transform = transform.astype(np.float64)
    vertices = (mesh.vertices.astype(np.float64) / scale - transform[:, 3]) @ transform[:, :3]
    return replace(mesh, vertices=vertices, up=None)
