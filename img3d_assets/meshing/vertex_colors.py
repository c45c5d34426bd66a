# SPDX-License-Identifier: Apache-2.0
"""Colours vertices from the pictures in which they are visible, weighted by how frontal the view is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_kernels.projection import in_picture

MIN_FACING = 0.1
"""Minimum cosine of the angle between the normal and the direction to the camera."""


def colored(mesh: Mesh, views: Iterable[SurfaceView], tolerance: float) -> Mesh:
    """The mesh with colours from the pictures. Vertices that no picture shows get the colour of the nearest visible
    vertex; if none is visible, the mesh is unchanged.

    Args:
        mesh: A mesh in the views' world.
        views: Pictures with depth.
        tolerance: Maximum difference between a vertex's depth and the picture's.
    """
    vertices, normals = mesh.vertices, vertex_normals(mesh)
    colors, weights = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    points = torch.from_numpy(vertices).double()
    for view in views:
        height, width = view.depth.shape
        found = in_picture(points, torch.from_numpy(view.K), torch.from_numpy(view.viewmat), width, height)
        inside, pixels, in_camera = (each.numpy() for each in found)
        distance = np.maximum(np.linalg.norm(in_camera, axis=1), 1e-12)
        facing = -(in_camera * (normals @ view.viewmat[:3, :3].T)).sum(axis=1) / distance
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
