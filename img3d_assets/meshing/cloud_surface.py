# SPDX-License-Identifier: Apache-2.0
"""Fits a surface to a point cloud with normals, as stereo fuses it: smooth where there are points, open where none are.

Screened Poisson reconstruction (Kazhdan and Hoppe 2013) closes everything. What no point supports is removed again,
unless it only bridges a small gap, such as a patch without texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.cleaning import cleaned, compacted, decimated
from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError

NEIGHBOURS = 6
"""The distance to this neighbour is a point's spacing."""
SPARSE = 8.0
"""Points whose spacing is this many times the median spacing around them are outliers."""
OUTLIERS = 0.001
"""Fraction of points at either end of each axis that may be far from everything else."""
REACH = 0.1
"""Extension of the surface beyond the others, where there are points, relative to their longest extent."""
WIDER = 1.1
"""Side of the octree's bounding cube, relative to the points' extent."""
CELLS_PER_SPACING = 1.0
MIN_DEPTH, MAX_DEPTH = 5, 11
"""Levels of the octree."""
SUPPORT = 2.0
"""Maximum distance from a point, in its spacing, of surface that it supports."""
GAP, GAP_IN_SPACING = 0.015, 5.0
"""Maximum distance from all points of surface that bridges a gap, relative to the points' longest extent and to their
median spacing; the larger counts."""
COLORING = 4
"""Number of points whose mean colour a vertex gets."""
MIN_POINTS = 100


@dataclass(frozen=True)
class CloudSurfaceOptions:
    """How fine the surface is."""

    max_points: int = 1_000_000
    """Number of points that are used; a random choice of more."""
    faces: int = 150_000
    """Maximum number of triangles."""


def surface_of_cloud(cloud: PointCloud, options: CloudSurfaceOptions) -> Mesh:
    """A clean mesh with the cloud's colours.

    Args:
        cloud: Points of one or several surfaces, normals outward.
        options: How fine.

    Raises:
        InputError: There are too few points.
    """
    if len(cloud) < MIN_POINTS:
        raise InputError(f"Only {len(cloud)} points were found on surfaces: too few for a mesh.")
    if len(cloud) > options.max_points:
        chosen = np.random.default_rng(0).choice(len(cloud), options.max_points, replace=False)
        cloud = cloud[np.sort(chosen)]
    cloud = _without_far_points(cloud)
    distances, nearest = KDTree(cloud.points).query(cloud.points, NEIGHBOURS + 1, workers=-1)
    spacing = np.asarray(distances)[:, -1]
    dense = spacing <= SPARSE * np.median(spacing[np.asarray(nearest)[:, 1:]], axis=1)
    cloud, spacing = cloud[dense], spacing[dense]
    tree = KDTree(cloud.points)
    extent = float(np.ptp(cloud.points, axis=0).max())
    usual = float(np.median(spacing))
    vertices, faces = _poisson(cloud, WIDER * extent / usual * CELLS_PER_SPACING)
    distance, nearest = tree.query(vertices, workers=-1)
    widest = max(GAP * extent, GAP_IN_SPACING * usual)
    faces = faces[_supported(faces, distance, distance <= SUPPORT * spacing[nearest], widest)]
    if len(faces) == 0:
        raise InputError("The points that were found lie on no common surface.")
    vertices, faces = cleaned(*compacted(vertices, faces))
    vertices, faces = decimated(vertices, faces, options.faces)
    _, nearest = tree.query(vertices, COLORING, workers=-1)
    return Mesh(vertices, faces, cloud.colors[nearest].mean(axis=1).astype(np.float32))


def _without_far_points(cloud: PointCloud) -> PointCloud:
    """Outliers would widen the octree, and so make all of the surface coarser."""
    low, high = np.quantile(cloud.points, [OUTLIERS, 1 - OUTLIERS], axis=0)
    reach = REACH * (high - low).max()
    return cloud[((cloud.points >= low - reach) & (cloud.points <= high + reach)).all(axis=1)]


def _poisson(cloud: PointCloud, cells: float) -> tuple[Float[np.ndarray, "M 3"], Int[np.ndarray, "F 3"]]:
    """The closed surface.

    Args:
        cloud: Points and normals.
        cells: Cells of the octree along a side of its cube, at most.
    """
    import open3d as o3d

    points = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points))
    points.normals = o3d.utility.Vector3dVector(cloud.normals.astype(np.float64))
    depth = min(max(math.ceil(math.log2(cells)), MIN_DEPTH), MAX_DEPTH)
    # With several threads it spends its time on waiting: two take five times as long as one.
    found, _ = o3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        points, depth, scale=WIDER, linear_fit=True, n_threads=1
    )
    return np.asarray(found.vertices), np.asarray(found.triangles).astype(np.int64)


def _supported(
    faces: Int[np.ndarray, "F 3"],
    distance: Float[np.ndarray, "M"],
    supported: Bool[np.ndarray, "M"],
    widest: float,
) -> Bool[np.ndarray, "F"]:
    """Which faces to keep: those with three supported corners, and gaps between such that are not wide.

    A gap is a connected set of the other faces; it is kept or removed as a whole, so that no flaps stay at the border
    of what was seen.
    """
    kept = supported[faces].all(axis=1)
    others = np.flatnonzero(~kept)
    if len(others) == 0:
        return kept
    corners = np.where(supported[faces[others]], -1, faces[others])  # gaps meet at corners that have no support
    number = len(distance)
    rows, columns = np.repeat(np.arange(len(others)), 3), corners.reshape(-1)
    linked = columns >= 0
    rows, columns = rows[linked], columns[linked] + len(others)
    size = len(others) + number
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    _, gap_of = connected_components(graph, directed=False)
    farthest = np.zeros(gap_of.max() + 1)
    np.maximum.at(farthest, gap_of[: len(others)], distance[faces[others]].max(axis=1))
    kept[others] = farthest[gap_of[: len(others)]] <= widest
    return kept
