# SPDX-License-Identifier: Apache-2.0
"""Comparison of meshes whose vertices and faces may be in any order."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree


def assert_same_mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    expected_vertices: Float[np.ndarray, "W 3"],
    expected_faces: Int[np.ndarray, "G 3"],
    tolerance: float,
    winding: bool = True,
) -> Int[np.ndarray, "W"]:
    """Compares two meshes as sets; which corner of a triangle comes first does not count.

    Args:
        vertices, faces: One mesh.
        expected_vertices, expected_faces: The other one.
        tolerance: Largest distance of a vertex; vertices that are closer together count as one.
        winding: Whether the order of a triangle's corners counts.

    Returns:
        For each expected vertex, the one that it is.
    """
    assert (len(vertices), len(faces)) == (len(expected_vertices), len(expected_faces))
    tree = KDTree(vertices)
    distance, nearest = map(np.asarray, tree.query(expected_vertices))
    assert distance.max(initial=0) <= tolerance
    pairs = tree.query_pairs(tolerance, output_type="ndarray")
    size = (len(vertices),) * 2
    place = connected_components(coo_matrix((np.ones(len(pairs)), pairs.T), size), directed=False)[1]
    np.testing.assert_array_equal(np.sort(place), np.sort(place[nearest]))
    ours, theirs = (_in_order(corners, winding) for corners in (place[faces], place[nearest][expected_faces]))
    np.testing.assert_array_equal(ours, theirs)
    return nearest


def _in_order(faces: Int[np.ndarray, "F 3"], winding: bool) -> Int[np.ndarray, "F 3"]:
    """Triangles with the lowest corner first, sorted."""
    if winding:
        turns = (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3
        faces = np.take_along_axis(faces, turns, axis=1)
    else:
        faces = np.sort(faces, axis=1)
    return faces[np.lexsort(faces.T)]
