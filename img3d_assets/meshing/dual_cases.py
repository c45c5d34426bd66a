# SPDX-License-Identifier: Apache-2.0
"""How surfaces cross a cube: the cases of dual marching cubes (Nielson 2004), computed rather than listed.

Corner i of a cube is at (i & 1, i >> 1 & 1, i >> 2 & 1). Bit i of a case is set if corner i is inside.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

CORNERS = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)])
"""`[8, 3]`: the corners of the unit cube."""
EDGES = np.array([(0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4)])
"""`[12, 2]`: the corners at the ends of the edges. Edges of the same direction have the same order in all cubes."""
NUM_CASES = 256
FACES = tuple((axis, side) for axis in range(3) for side in range(2))
"""The faces: the axis that they are perpendicular to, and whether they are at its lower (0) or upper end (1)."""


class Cases(NamedTuple):
    """Tables, indexed by the case."""

    num_vertices: Int64[np.ndarray, "256"]
    """Number of dual vertices in the cube, 0 to 4: one for each piece of surface."""
    vertex_of_edge: Int64[np.ndarray, "256 12"]
    """Index of the dual vertex of the piece that crosses an edge; -1 if the edge is not crossed."""
    toward_ambiguous: Int64[np.ndarray, "256 3"]
    """The direction of the ambiguous face, for cases with exactly one such face and one piece of surface; 0 for all
    others. If two such cubes share the face, the surface would pinch there."""


@cache
def cases() -> Cases:
    """The tables of all cases."""
    tables = Cases(
        np.zeros(NUM_CASES, np.int64), np.full((NUM_CASES, len(EDGES)), -1), np.zeros((NUM_CASES, 3), np.int64)
    )
    for case in range(NUM_CASES):
        inside = [bool(case >> corner & 1) for corner in range(8)]
        pieces, ambiguous = _pieces(inside)
        tables.num_vertices[case] = len(pieces)
        for index, edges in enumerate(pieces):
            tables.vertex_of_edge[case, sorted(edges)] = index
        if len(ambiguous) == 1 and len(pieces) == 1:
            axis, side = ambiguous[0]
            tables.toward_ambiguous[case, axis] = 2 * side - 1
    return tables


def _pieces(inside: list[bool]) -> tuple[list[set[int]], list[tuple[int, int]]]:
    """The edges that each piece of surface crosses, and the ambiguous faces: those with four crossed edges.

    On an ambiguous face, the surface separates the two inside corners.
    """
    pieces = [{edge} for edge, (a, b) in enumerate(EDGES) if inside[a] != inside[b]]
    ambiguous = []
    for axis, side in FACES:
        on_face = [edge for edge, ends in enumerate(EDGES) if (CORNERS[ends, axis] == side).all()]
        crossed = [edge for edge in on_face if inside[EDGES[edge, 0]] != inside[EDGES[edge, 1]]]
        if len(crossed) == 2:
            pieces = _joined(pieces, *crossed)
        elif len(crossed) == 4:
            ambiguous.append((axis, side))
            for corner in range(8):
                meeting = [edge for edge in crossed if corner in EDGES[edge]]
                if inside[corner] and meeting:
                    pieces = _joined(pieces, *meeting)
    return sorted(pieces, key=min), ambiguous


def _joined(pieces: list[set[int]], first: int, second: int) -> list[set[int]]:
    """The pieces, after joining those that contain either edge."""
    touched = [piece for piece in pieces if first in piece or second in piece]
    return [piece for piece in pieces if piece not in touched] + [set().union(*touched)]
