# SPDX-License-Identifier: Apache-2.0
"""Colours vertices from the pictures in which they are visible, weighted by how frontal the view is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals
from img3d_assets.meshing.surface_view import SurfaceView

MIN_FACING = 0.1
"""Minimum cosine of the angle between the normal and the direction to the camera."""


def colored(mesh: Mesh, views: Iterable[SurfaceView], tolerance: float) -> Mesh:
    """The mesh with colours from the pictures. Vertices that no picture shows get the nearest visible vertex's
    colour; if none is visible, the mesh is unchanged.

    Args:
        mesh: A mesh in the views' world.
        views: Pictures with depth.
        tolerance: Maximum difference between a vertex's depth and the picture's.
    """
    vertices, normals = mesh.vertices, vertex_normals(mesh)
    colors, weights = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    for view in views:
        in_camera = vertices @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
        projected = in_camera @ view.K.T
        height, width = view.depth.shape
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = np.floor(projected[:, :2] / projected[:, 2:])
            facing = -(in_camera * (normals @ view.viewmat[:3, :3].T)).sum(axis=1) / np.linalg.norm(in_camera, axis=1)
            inside = (projected[:, 2] > 0) & (pixels >= 0).all(axis=1) & (pixels < [width, height]).all(axis=1)
        seen = np.flatnonzero(inside & (facing > MIN_FACING))
        columns, rows = pixels[seen].astype(np.int64).T
        in_front = np.abs(view.depth[rows, columns] - in_camera[seen, 2]) <= tolerance
        seen, rows, columns = seen[in_front], rows[in_front], columns[in_front]
        weight = facing[seen] ** 2
        colors[seen] += weight[:, None] * view.rgb[rows, columns]
        weights[seen] += weight
    known = weights > 0
    colors[known] /= weights[known, None]
    if not known.any():
        return mesh
    if not known.all():
        colors[~known] = colors[known][KDTree(vertices[known]).query(vertices[~known])[1]]
    return replace(mesh, colors=colors.astype(np.float32))
