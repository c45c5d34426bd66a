# SPDX-License-Identifier: Apache-2.0
"""FlexiCubes (Shen et al. 2023, arXiv 2308.05371): the surface of a scalar field on a deformed grid, with weights by
which a network places vertices.

Every cube that the surface crosses has one dual vertex for each piece of surface in it, a weighted mean of the
crossings of its edges. Around every crossed edge, the dual vertices of the four cubes make two triangles. Only the
cubes at the surface are looked at: memory grows with the surface, not with the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.special import expit

from img3d_assets.meshing.dual_cases import CORNERS, EDGES, NUM_CASES, cases

NUM_WEIGHTS = 21
"""Weights of a cube: 12 of its edges, 8 of its corners, 1 for how quads around its vertices are divided."""
DEFAULT_WEIGHT_SCALE = 0.99
CUBES_AROUND_EDGE = 4
"""Of an edge inside the grid."""


@dataclass(frozen=True)
class DualSurface:
    """Triangles that look towards positive values."""

    vertices: Float32[np.ndarray, "V 3"]
    """One for each piece of surface in a cube, in the order of the cubes; those at the grid's border may be in no
    face."""
    faces: Int64[np.ndarray, "F 3"]
    """Indices into the vertices, counter-clockwise as seen from positive values."""
    attributes: Float32[np.ndarray, "V A"]
    """Interpolated as the positions are."""


def surface_cubes(values: Float[np.ndarray, "X Y Z"]) -> Int64[np.ndarray, "S 3"]:
    """The cubes of a grid that have corners both inside and outside, by their lower corners, x slowest.

    Args:
        values: Of the field at the grid's vertices; negative is inside, 0 is outside.
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
        cubes: All cubes that have corners both inside and outside, as `surface_cubes` gives them.
        values: Of the field at their corners (`corners_of`); negative is inside, 0 is outside.
        positions: Of these corners, deformed as the network says.
        weights: Of the cubes, before their activations: 12 of the edges, 8 of the corners, 1 of the division of
            quads; None weights everything equally.
        weight_scale: How much the weights count, 0 to 1.
        attributes: Of the corners, to be interpolated.
    """
    order = np.lexsort(cubes.T[::-1])
    tables, keys, strides = cases(), *_keys_of(cubes[order])
    of_edge, of_corner, of_cube = _activated(weights, len(cubes), weight_scale)
    case = resolved(case_of(values[order]), keys, strides)

    first = np.cumsum(tables.num_vertices[case]) - tables.num_vertices[case]
    cube, edge = np.nonzero(tables.vertex_of_edge[case] >= 0)
    vertex = first[cube] + tables.vertex_of_edge[case[cube], edge]
    source = order[cube]  # where the caller has this cube
    start, end = EDGES[edge].T
    at_start = values[source, start].astype(np.float64) * of_corner[source, start]
    at_end = values[source, end].astype(np.float64) * of_corner[source, end]
    share = (at_start / (at_start - at_end))[:, None]  # of the edge before the crossing

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
    """Which corners are inside, one bit each."""
    return (values < 0) @ (1 << np.arange(8))


def resolved(
    case: Int64[np.ndarray, "S"], keys: Int64[np.ndarray, "S"], strides: Int64[np.ndarray, "3"]
) -> Int64[np.ndarray, "S"]:
    """The cases, without pairs of cubes between which the surface would pinch: both are turned inside out, so that the
    surface separates the outside corners of the face that they share instead.

    Args:
        case: Of each cube.
        keys: Numbers of the cubes, ascending.
        strides: How much a step along each axis adds to them.
    """
    toward = cases().toward_ambiguous[case]
    problematic = np.flatnonzero(toward.any(axis=1))
    beyond = keys[problematic] + toward[problematic] @ strides
    found = np.searchsorted(keys, beyond).clip(max=max(len(keys) - 1, 0))
    pinched = (keys[found] == beyond) & toward[found].any(axis=1)
    turned = case.copy()
    turned[problematic[pinched]] ^= NUM_CASES - 1
    return turned


def _keys_of(cubes: Int64[np.ndarray, "S 3"]) -> tuple[Int64[np.ndarray, "S"], Int64[np.ndarray, "3"]]:
    """Numbers of cubes, x slowest, and how much a step along each axis adds to them; none is that of a cube on the
    opposite side of the grid, one step beyond which there is nothing."""
    _, height, depth = (cubes.max(axis=0, initial=0) + 3).tolist()
    strides = np.array([height * depth, depth, 1])
    return (cubes + 1) @ strides, strides


def _activated(
    weights: Float[np.ndarray, "S 21"] | None, num_cubes: int, scale: float
) -> tuple[Float[np.ndarray, "S 12"], Float[np.ndarray, "S 8"], Float[np.ndarray, "S"]]:
    """The weights of edges, of corners, and of the division of quads."""
    if weights is None:
        return np.ones((num_cubes, 12)), np.ones((num_cubes, 8)), np.ones(num_cubes)
    weights = weights.astype(np.float64)
    of_edges_and_corners = 1 + scale * np.tanh(weights[:, :-1])
    of_division = scale * expit(weights[:, -1]) + (1 - scale) / 2
    return of_edges_and_corners[:, :12], of_edges_and_corners[:, 12:], of_division


def _weighted_means(
    values: Float[np.ndarray, "E C"], weights: Float[np.ndarray, "E"], groups: Int64[np.ndarray, "E"], num_groups: int
) -> Float[np.ndarray, "V C"]:
    """The weighted mean of every group's values."""
    totals = np.bincount(groups, weights, num_groups)
    sums = [np.bincount(groups, weights * column, num_groups) for column in values.T]
    return np.stack(sums, axis=1) / totals[:, None]


def _faces(
    edge: Int64[np.ndarray, "E"],
    vertex: Int64[np.ndarray, "E"],
    at_start: Float[np.ndarray, "E"],
    gamma: Float[np.ndarray, "E"],
) -> Int64[np.ndarray, "F 3"]:
    """Two triangles around every edge that has four cubes.

    Args:
        edge: The number of a crossed edge, once for every cube that has it, in the order of the cubes.
        vertex: That cube's vertex beside it.
        at_start: The field's value where the edge starts.
        gamma: That cube's weight for the division of quads.
    """
    order = np.argsort(edge, kind="stable")
    _, begin, count = np.unique(edge[order], return_index=True, return_counts=True)
    around = order[begin[count == CUBES_AROUND_EDGE, None] + np.arange(CUBES_AROUND_EDGE)]
    starts = at_start[around[:, :1]]
    around = np.where(starts > 0, around[:, [0, 1, 3, 2]], around[:, [2, 3, 1, 0]])
    quads, weights = vertex[around], gamma[around]
    along_02 = weights[:, 0] * weights[:, 2] > weights[:, 1] * weights[:, 3]
    corners = np.where(along_02[:, None], [0, 1, 2, 0, 2, 3], [0, 1, 3, 3, 1, 2])
    corners = np.where(starts == 0, corners[:, ::-1], corners)  # outside too; the authors' code leaves these reversed
    return np.take_along_axis(quads, corners, axis=1).reshape(-1, 3)
