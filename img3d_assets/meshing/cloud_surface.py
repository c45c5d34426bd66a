# SPDX-License-Identifier: Apache-2.0
"""Fits a surface to a point cloud with normals, as stereo fuses it: smooth where there are points, open where none are.

Screened Poisson reconstruction closes all holes. Surface that no point supports is removed again, unless it only
bridges a small gap, such as a patch without texture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.cleaning import cleaned, compacted, decimated
from img3d_assets.meshing.inliers import inlier_bounds
from img3d_assets.meshing.poisson import screened_poisson
from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError

NEIGHBOURS = 6
"""The distance to this neighbour is a point's spacing."""
MAX_RELATIVE_SPACING = 8.0
"""Maximum spacing of a point, relative to the median spacing of its neighbours; above it, the point is an outlier."""
OUTLIERS = 0.001
"""Fraction of points at either end of each axis that may be outliers."""
WIDER = 1.1
"""Side of the octree's bounding cube, relative to the points' extent."""
MIN_DEPTH, MAX_DEPTH = 5, 11
"""Octree depth: the bounding cube is halved this many times."""
MAX_SUPPORT_DISTANCE = 2.0
"""Maximum distance from a point, in its spacing, of surface that it supports."""
MAX_GAP, MAX_GAP_IN_SPACINGS = 0.015, 5.0
"""Maximum distance from all points of surface that bridges a gap, relative to the points' longest extent and to their
median spacing; the larger counts."""
COLORING = 4
"""Number of points whose mean colour a vertex gets."""
MIN_POINTS = 100
"""Minimum number of points."""


@dataclass(frozen=True)
class CloudSurfaceOptions:
    """Limits of the surface's resolution."""

    max_points: int = 1_000_000
    """Maximum number of points that are used; of more, a random selection."""
    faces: int = 150_000
    """Maximum number of triangles."""


IsFree = Callable[[Float[np.ndarray, "M 3"]], Bool[np.ndarray, "M"]]
"""Tells which points lie in free space, where no surface can be."""


def surface_of_cloud(cloud: PointCloud, options: CloudSurfaceOptions, is_free: IsFree | None = None) -> Mesh:
    """A clean mesh with the cloud's colours.

    Args:
        cloud: Points of one or several surfaces, normals outward.
        options: Limits of the resolution.
        is_free: Surface in free space is removed. None: nothing is known about free space.

    Raises:
        InputError: There are too few points, or they lie on no common surface.
    """
    if len(cloud) < MIN_POINTS:
        raise InputError(f"Only {len(cloud)} points were found on surfaces: too few for a mesh.")
    if len(cloud) > options.max_points:
        chosen = np.random.default_rng(0).choice(len(cloud), options.max_points, replace=False)
        cloud = cloud[np.sort(chosen)]
    low, high = inlier_bounds(cloud.points, OUTLIERS)
    cloud = cloud[((cloud.points >= low) & (cloud.points <= high)).all(axis=1)]
    distances, nearest = KDTree(cloud.points).query(cloud.points, NEIGHBOURS + 1, workers=-1)
    spacing = np.asarray(distances)[:, -1]
    dense = spacing <= MAX_RELATIVE_SPACING * np.median(spacing[np.asarray(nearest)[:, 1:]], axis=1)
    cloud, spacing = cloud[dense], spacing[dense]
    tree = KDTree(cloud.points)
    extent = float(np.ptp(cloud.points, axis=0).max())
    usual = float(np.median(spacing))
    # With cells as wide as the spacing, there are about as many triangles as points: coarser ones will do for fewer.
    cell = usual * max(1.0, math.sqrt(len(cloud) / options.faces))
    depth = min(max(math.ceil(math.log2(WIDER * extent / cell)), MIN_DEPTH), MAX_DEPTH)
    vertices, faces = screened_poisson(cloud.points, cloud.normals, depth, WIDER, linear_fit=True)
    distance, nearest = tree.query(vertices, workers=-1)
    max_gap = max(MAX_GAP * extent, MAX_GAP_IN_SPACINGS * usual)
    faces = faces[_supported(faces, distance, distance <= MAX_SUPPORT_DISTANCE * spacing[nearest], max_gap)]
    if is_free is not None:
        faces = faces[~is_free(vertices)[faces].any(axis=1)]
    if len(faces) == 0:
        raise InputError("The points that were found lie on no common surface.")
    vertices, faces = cleaned(*compacted(vertices, faces))
    vertices, faces = decimated(vertices, faces, options.faces)
    _, nearest = tree.query(vertices, COLORING, workers=-1)
    return Mesh(vertices, faces, cloud.colors[nearest].mean(axis=1).astype(np.float32))


def _supported(
    faces: Int[np.ndarray, "F 3"],
    distance: Float[np.ndarray, "M"],
    supported: Bool[np.ndarray, "M"],
    max_gap: float,
) -> Bool[np.ndarray, "F"]:
    """Which faces to keep: those with three supported corners, and small gaps between them.

    A gap is a connected set of the other faces. It is kept or removed as a whole, so that no flaps remain at the border
    of the points.

    Args:
        faces: The closed surface.
        distance: Of each vertex, to the nearest point.
        supported: Which vertices a point supports.
        max_gap: Maximum distance of a vertex in a gap that is kept.
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
    kept[others] = farthest[gap_of[: len(others)]] <= max_gap
    return kept
