# SPDX-License-Identifier: Apache-2.0
"""FlexiCubes (Shen et al. 2023, arXiv 2308.05371): extracts the surface of a scalar field on a deformed grid, with
weights by which a network places the vertices.

Every cube that the surface crosses has one dual vertex for each piece of surface in it: a weighted mean of the points
where the piece crosses the cube's edges. Around every crossed edge, the dual vertices of its four cubes form two
triangles. Only cubes at the surface are processed, so that memory grows with the surface and not with the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.special import expit

from img3d_assets.meshing.dual_cases import CORNERS, EDGES, NUM_CASES, cases

NUM_WEIGHTS = 21
"""Weights per cube: 12 for its edges, 8 for its corners, 1 for the division of quads into triangles."""
DEFAULT_WEIGHT_SCALE = 0.99
"""Default of `weight_scale`, as in the authors' code."""
CUBES_AROUND_EDGE = 4
"""Number of cubes that share an edge inside the grid; at the grid's border there are fewer."""


@dataclass(frozen=True)
class DualSurface:
    """A triangle mesh whose faces look towards positive values."""

    vertices: Float32[np.ndarray, "V 3"]
    """A vertex for each piece of surface in a cube, x of the cubes slowest. Vertices at the grid's border may be in no
    face."""
    faces: Int64[np.ndarray, "F 3"]
    """Indices into the vertices, counter-clockwise as seen from positive values."""
    attributes: Float32[np.ndarray, "V A"]
    """Attributes of the vertices, interpolated like their positions."""


def surface_cubes(values: Float[np.ndarray, "X Y Z"]) -> Int64[np.ndarray, "S 3"]:
    """The cubes of a grid that have corners both inside and outside, by their lower corners, x slowest.

    Args:
        values: Field values at the grid's vertices; negative is inside, 0 counts as outside.
    """
    inside = values < 0
    some, every = inside, inside
    for axis in range(3):
        low, high = ([slice(None)] * axis + [part] for part in (slice(None, -1), slice(1, None)))
        some, every = some[tuple(low)] | some[tuple(high)], every[tuple(low)] & every[tuple(high)]
    return np.argwhere(some & ~every)


def corners_of(cubes: Int64[np.ndarray, "S 3"]) -> Int64[np.ndarray, "S 8 3"]:
    """Grid coordinates of the cubes' corners; corner i is at (i & 1, i >> 1 & 1, i >> 2 & 1) in its cube."""
    return cubes[:, None] + CORNERS


def flexicubes(
    cubes: Int64[np.ndarray, "S 3"],
    values: Float[np.ndarray, "S 8"],
    positions: Float[np.ndarray, "S 8 3"],
    weights: Float[np.ndarray, "S 21"] | None = None,
    weight_scale: float = DEFAULT_WEIGHT_SCALE,
    attributes: Float[np.ndarray, "S 8 A"] | None = None,
) -> DualSurface:
    """Extracts the surface where the field is 0.

    Args:
        cubes: All cubes that have corners both inside and outside, as from `surface_cubes`, in any order.
        values: Field values at their corners (`corners_of`); negative is inside, 0 counts as outside.
        positions: Positions of these corners, which the network may have moved.
        weights: Weights of the cubes, before activation: 12 for the edges, 8 for the corners, 1 for the division of
            quads. None: all are equal.
        weight_scale: Range of the activated weights, in [0, 1]: those of edges and corners are in 1 ± `weight_scale`.
        attributes: Attributes of the corners, such as colours, which are interpolated.

    Returns:
        The mesh, in the coordinates of `positions`.
    """
    order = np.lexsort(cubes.T[::-1])
    tables, keys, strides = cases(), *_keys_of(cubes[order])
    of_edge, of_corner, of_cube = _activated(weights, len(cubes), weight_scale)
    case = resolved(case_of(values[order]), keys, strides)

    first = np.cumsum(tables.num_vertices[case]) - tables.num_vertices[case]
    cube, edge = np.nonzero(tables.vertex_of_edge[case] >= 0)
    vertex = first[cube] + tables.vertex_of_edge[case[cube], edge]
    source = order[cube]  # the caller's index of this cube
    start, end = EDGES[edge].T
    at_start = values[source, start].astype(np.float64) * of_corner[source, start]
    at_end = values[source, end].astype(np.float64) * of_corner[source, end]
    share = (at_start / (at_start - at_end))[:, None]  # the part of the edge before the crossing

    extra = np.zeros((*values.shape, 0)) if attributes is None else attributes
    carried = np.concatenate([positions, extra], axis=2, dtype=np.float64)
    crossings = carried[source, start] * (1 - share) + carried[source, end] * share
    means = _weighted_means(crossings, of_edge[source, edge], vertex, int(tables.num_vertices[case].sum()))

    lower = np.minimum(start, end)
    axis = np.argmax(np.abs(CORNERS[start] - CORNERS[end]), axis=1)
    edge_id = (keys[cube] + CORNERS[lower] @ strides) * 3 + axis
    faces = _faces(edge_id, vertex, values[source, start], of_cube[source])
    return DualSurface(means[:, :3].astype(np.float32), faces, means[:, 3:].astype(np.float32))


def case_of(values: Float[np.ndarray, "S 8"]) -> Int64[np.ndarray, "S"]:
    """The case of each cube: bit i is set if corner i is inside."""
    return (values < 0) @ (1 << np.arange(8))


def resolved(
    case: Int64[np.ndarray, "S"], keys: Int64[np.ndarray, "S"], strides: Int64[np.ndarray, "3"]
) -> Int64[np.ndarray, "S"]:
    """Changes the cases of pairs of cubes between which the surface would pinch.

    Both cubes of such a pair are inverted. On the face that they share, the surface then separates the two outside
    corners instead of the two inside ones.

    Args:
        case: Case of each cube.
        keys: Numbers of the cubes, ascending.
        strides: Difference between the numbers of neighbouring cubes along each axis.
    """
    toward = cases().toward_ambiguous[case]
    problematic = np.flatnonzero(toward.any(axis=1))
    beyond = keys[problematic] + toward[problematic] @ strides
    found = np.searchsorted(keys, beyond).clip(max=max(len(keys) - 1, 0))
    pinched = (keys[found] == beyond) & toward[found].any(axis=1)
    inverted = case.copy()
    inverted[problematic[pinched]] ^= NUM_CASES - 1
    return inverted


def _keys_of(cubes: Int64[np.ndarray, "S 3"]) -> tuple[Int64[np.ndarray, "S"], Int64[np.ndarray, "3"]]:
    """Numbers of cubes, x slowest, and their strides along the axes.

    The numbering leaves room around the grid, so that a step beyond its border never gives the number of another cube.
    """
    _, height, depth = (cubes.max(axis=0, initial=0) + 3).tolist()
    strides = np.array([height * depth, depth, 1])
    return (cubes + 1) @ strides, strides


def _activated(
    weights: Float[np.ndarray, "S 21"] | None, num_cubes: int, scale: float
) -> tuple[Float[np.ndarray, "S 12"], Float[np.ndarray, "S 8"], Float[np.ndarray, "S"]]:
    """Activated weights: of the edges, of the corners, and for the division of quads."""
    if weights is None:
        return np.ones((num_cubes, 12)), np.ones((num_cubes, 8)), np.ones(num_cubes)
    weights = weights.astype(np.float64)
    of_edges_and_corners = 1 + scale * np.tanh(weights[:, :-1])
    of_division = scale * expit(weights[:, -1]) + (1 - scale) / 2
    return of_edges_and_corners[:, :12], of_edges_and_corners[:, 12:], of_division


def _weighted_means(
    values: Float[np.ndarray, "E C"], weights: Float[np.ndarray, "E"], groups: Int64[np.ndarray, "E"], num_groups: int
) -> Float[np.ndarray, "V C"]:
    """The weighted mean of the values of each group."""
    totals = np.bincount(groups, weights, num_groups)
    sums = [np.bincount(groups, weights * column, num_groups) for column in values.T]
    return np.stack(sums, axis=1) / totals[:, None]


def _faces(
    edge: Int64[np.ndarray, "E"],
    vertex: Int64[np.ndarray, "E"],
    at_start: Float[np.ndarray, "E"],
    gamma: Float[np.ndarray, "E"],
) -> Int64[np.ndarray, "F 3"]:
    """Two triangles around every crossed edge that has four cubes.

    Args:
        edge: For each pair of a cube and a crossed edge of it, in the order of the cubes, the number of the edge.
        vertex: Index of the cube's vertex on the piece of surface that crosses the edge.
        at_start: Field value at the start of the edge.
        gamma: The cube's weight for the division of quads (γ in the paper).
    """
    order = np.argsort(edge, kind="stable")
    _, begin, count = np.unique(edge[order], return_index=True, return_counts=True)
    around = order[begin[count == CUBES_AROUND_EDGE, None] + np.arange(CUBES_AROUND_EDGE)]
    starts = at_start[around[:, :1]]
    around = np.where(starts > 0, around[:, [0, 1, 3, 2]], around[:, [2, 3, 1, 0]])
    quads, weights = vertex[around], gamma[around]
    along_02 = weights[:, 0] * weights[:, 2] > weights[:, 1] * weights[:, 3]
    corners = np.where(along_02[:, None], [0, 1, 2, 0, 2, 3], [0, 1, 3, 3, 1, 2])
    corners = np.where(starts == 0, corners[:, ::-1], corners)  # the start is outside; the authors' code reverses these
    return np.take_along_axis(quads, corners, axis=1).reshape(-1, 3)
