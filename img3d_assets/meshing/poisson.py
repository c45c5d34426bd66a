# SPDX-License-Identifier: Apache-2.0
"""Fits a smooth surface through one with holes and noise: screened Poisson reconstruction (Kazhdan and Hoppe 2013)."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

SUPPORT = 3.0
"""Maximum distance from the given surface, in its units, at which the new surface is supported by data."""
WIDER = 1.25
"""Side of the octree's bounding cube, relative to the points' extent: surface that bridges a hole needs the margin."""


def poisson_surface(
    vertices: Float[np.ndarray, "N 3"], faces: Int[np.ndarray, "F 3"], closed: bool
) -> tuple[Float[np.ndarray, "M 3"], Int[np.ndarray, "G 3"]]:
    """Fits a surface whose inside is on the inner side of all given vertices.

    Args:
        vertices: Vertices in units of the smallest detail; each belongs to a face.
        faces: Counter-clockwise as seen from outside.
        closed: Keep the surface that bridges large holes; otherwise it is removed again. The largest holes are not
            bridged, since the surface would bulge out of the octree's cube.
    """
    import open3d as o3d

    given = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    given.compute_vertex_normals()
    cloud = o3d.geometry.PointCloud(given.vertices)
    cloud.normals = given.vertex_normals
    extent = WIDER * float(np.ptp(vertices, axis=0).max())
    depth = max(math.ceil(math.log2(extent)), 4)
    # With several threads it spends its time on waiting: two take five times as long as one.
    found, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth, scale=WIDER, n_threads=1)
    surface, triangles = np.asarray(found.vertices), np.asarray(found.triangles).astype(np.int64)
    if not closed:
        distance, _ = KDTree(vertices).query(surface, distance_upper_bound=SUPPORT)
        triangles = triangles[np.isfinite(distance)[triangles].all(axis=1)]
    return surface, triangles
