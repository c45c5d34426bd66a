# SPDX-License-Identifier: Apache-2.0
"""Sampling points on the surface of a mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import area_normals
from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError


def points_on_mesh(mesh: Mesh, num_points: int, seed: int = 0) -> PointCloud:
    """Samples random points uniformly by area, with the surface's colours and normals.

    Args:
        mesh: The mesh.
        num_points: Number of points.
        seed: Seed of the random generator.

    Raises:
        InputError: No face has an area.
    """
    rng = np.random.default_rng(seed)
    normals = area_normals(mesh)
    areas = np.linalg.norm(normals, axis=1)
    if not areas.sum() > 0:
        raise InputError("No face of the mesh has an area: there is no surface.")
    chosen = np.sort(rng.choice(len(areas), num_points, p=areas / areas.sum()))
    # Uniform barycentric coordinates (Osada et al., "Shape Distributions", 2002, section 4.2).
    root, along = np.sqrt(rng.random(num_points)), rng.random(num_points)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    corners = mesh.faces[chosen]
    points = (weights[..., None] * mesh.vertices[corners]).sum(axis=1)
    if mesh.texture is not None and mesh.uvs is not None:
        colors = texture_colors(mesh, (weights[..., None] * mesh.uvs[corners]).sum(axis=1))
    else:
        colors = (weights[..., None] * mesh.colors[corners]).sum(axis=1).astype(np.float32)
    return PointCloud(points.astype(np.float64), colors, (normals[chosen] / areas[chosen, None]).astype(np.float32))


def texture_colors(mesh: Mesh, uvs: Float[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 3"]:
    """Colours in [0, 1] of the nearest texels."""
    assert mesh.texture is not None
    height, width = mesh.texture.shape[:2]
    columns = (uvs[:, 0] * width).astype(np.int64).clip(0, width - 1)
    rows = ((1 - uvs[:, 1]) * height).astype(np.int64).clip(0, height - 1)
    return (mesh.texture[rows, columns] / 255).astype(np.float32)
