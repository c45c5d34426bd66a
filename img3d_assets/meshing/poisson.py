# SPDX-License-Identifier: Apache-2.0
"""Screened Poisson reconstruction (Kazhdan and Hoppe 2013), and a smooth surface through one with holes and noise."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

MAX_SUPPORT_DISTANCE = 3.0
"""Maximum distance from the given surface, in its units, at which the new surface is supported by data."""
WIDER = 1.25
"""Side of the octree's bounding cube, relative to the points' extent: surface that bridges a hole needs the margin."""

MIN_DEPTH = 4
"""Minimum depth of the octree."""


def screened_poisson(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    depth: int,
    scale: float,
    linear_fit: bool = False,
) -> tuple[Float[np.ndarray, "M 3"], Int[np.ndarray, "F 3"]]:
    """The closed surface that fits oriented points.

    Args:
        points: On the surface.
        normals: Pointing outward.
        depth: Octree depth: the bounding cube is halved this many times.
        scale: Side of the octree's bounding cube, relative to the points' extent.
        linear_fit: Place vertices by linear interpolation, which smooths less.
    """
    import open3d as o3d

    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    cloud.normals = o3d.utility.Vector3dVector(normals.astype(np.float64))
    # With several threads it spends its time on waiting: two take five times as long as one.
    found, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth, scale=scale, linear_fit=linear_fit, n_threads=1
    )
    return np.asarray(found.vertices), np.asarray(found.triangles).astype(np.int64)


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
    extent = WIDER * float(np.ptp(vertices, axis=0).max())
    depth = max(math.ceil(math.log2(extent)), MIN_DEPTH)
    surface, triangles = screened_poisson(vertices, np.asarray(given.vertex_normals), depth, WIDER)
    if not closed:
        distance, _ = KDTree(vertices).query(surface, distance_upper_bound=MAX_SUPPORT_DISTANCE)
        triangles = triangles[np.isfinite(distance)[triangles].all(axis=1)]
    return surface, triangles
