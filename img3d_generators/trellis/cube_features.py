# SPDX-License-Identifier: Apache-2.0
"""Makes a mesh by FlexiCubes from the features that TRELLIS's decoder gives the cubes of a grid. Only cubes near the
surface are processed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int, Int64
from scipy.special import expit

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.flexicubes import NUM_WEIGHTS, DualSurface, corners_of, flexicubes

CORNER_VALUES = {"distance": 1, "deformation": 3, "attributes": 6}
"""Features of each corner of a cube, and their numbers of channels; attributes are a colour and a normal."""
NUM_FEATURES = 8 * sum(CORNER_VALUES.values()) + NUM_WEIGHTS
OUTSIDE = 1.0
"""Signed distance at vertices of the grid that belong to no cube with features."""
JUST_BELOW_HALF = 0.5 * (1 - 1e-8)
"""Largest movement of a vertex of the grid along an axis, in cubes."""
NUM_CORNERS = 8


class GridValues:
    """Values at the V corners of M cubes: means over the cubes that share a corner.

    Args:
        cubes: The cubes' lower corners.
        features: The cubes' features.
        resolution: Cubes along the grid's side.
    """

    def __init__(self, cubes: Int64[np.ndarray, "M 3"], features: Float32[np.ndarray, "M F"], resolution: int) -> None:
        self.resolution, self._features = resolution, features
        self._shape = (resolution + 1,) * 3
        self.keys, self._of_corner = np.unique(self.keys_of(corners_of(cubes)), return_inverse=True)
        self._of_corner = self._of_corner.ravel()
        self._counts = np.bincount(self._of_corner)
        distances = self._means(slice(0, NUM_CORNERS), 1)[:, 0]
        self.distances = (distances - 1 / resolution).astype(np.float32)

    def keys_of(self, vertices: Int[np.ndarray, "... 3"]) -> Int64[np.ndarray, "..."]:
        """Numbers of vertices of the grid, x slowest."""
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(vertices, -1, 0)), self._shape), np.int64)

    def vertices(self) -> Int64[np.ndarray, "V 3"]:
        """The vertices that have values."""
        return np.stack(np.unravel_index(self.keys, self._shape), axis=1)

    def deformations(self) -> Float32[np.ndarray, "V 3"]:
        """The vertices' movements before the activation."""
        return self._means(slice(NUM_CORNERS, 4 * NUM_CORNERS), 3)

    def attributes(self) -> Float32[np.ndarray, "V 6"]:
        """The vertices' colours and normals before the activation."""
        return self._means(slice(-6 * NUM_CORNERS, None), 6)

    def _means(self, columns: slice, count: int) -> Float32[np.ndarray, "V C"]:
        values = self._features[:, columns].reshape(-1, count)
        sums = [np.bincount(self._of_corner, column) for column in values.T]
        return (np.stack(sums, axis=1) / self._counts[:, None]).astype(np.float32)

    def row_of(self, keys: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
        """The rows of vertices given by their numbers; V for vertices without values."""
        return rows_of(self.keys, keys)


def rows_of(sorted_keys: Int64[np.ndarray, "V"], keys: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """Positions of keys among sorted keys; V for keys that are not among them."""
    at = np.searchsorted(sorted_keys, keys)
    found = sorted_keys[np.minimum(at, len(sorted_keys) - 1)] == keys
    return np.where(found, at, len(sorted_keys))


def mesh_of_cubes(cubes: Int64[np.ndarray, "M 3"], features: Float32[np.ndarray, "M F"], resolution: int) -> Mesh:
    """The surface with vertex colours, in the box from -0.5 to 0.5. z up.

    Cubes without features can contain a part of the surface too: where they touch vertices inside the object.

    Args:
        cubes: The lower corners of M cubes.
        features: The cubes' features: signed distances and deformations of the corners, FlexiCubes' weights, and
            attributes of the corners.
        resolution: Cubes along the grid's side.
    """
    surface = surface_of_cubes(cubes, features, resolution)
    return Mesh(surface.vertices, surface.faces, np.ascontiguousarray(surface.attributes[:, :3]), up="z")


def surface_of_cubes(
    cubes: Int64[np.ndarray, "M 3"], features: Float32[np.ndarray, "M F"], resolution: int
) -> DualSurface:
    """The surface of `mesh_of_cubes`, with colours and normals in [0, 1] as attributes."""
    values = GridValues(cubes, features, resolution)
    crossed = _crossed_cubes(values)
    corners = corners_of(crossed)
    rows = values.row_of(values.keys_of(corners))
    needed, at = np.unique(rows, return_inverse=True)
    at = at.reshape(rows.shape)
    nothing = np.zeros((1, 1), np.float32)
    deformations = np.concatenate([values.deformations(), nothing.repeat(3, axis=1)])[needed]
    attributes = np.concatenate([values.attributes(), nothing.repeat(6, axis=1)])[needed]
    moved = np.tanh(deformations) * np.float32(JUST_BELOW_HALF / resolution)
    positions = corners / resolution - 0.5 + moved[at]
    # Cubes without features have weights of 0 before the activation.
    own = values.keys_of(cubes)
    order = np.argsort(own)
    which = rows_of(own[order], values.keys_of(crossed))
    weights = np.zeros((len(crossed), NUM_WEIGHTS), np.float32)
    is_own = which < len(own)
    weights[is_own] = features[order[which[is_own]], 4 * NUM_CORNERS : 4 * NUM_CORNERS + NUM_WEIGHTS]
    distances = _distances(values, rows)
    return flexicubes(crossed, distances, positions, weights, attributes=expit(attributes)[at])


def _distances(values: GridValues, rows: Int64[np.ndarray, "S 8"]) -> Float[np.ndarray, "S 8"]:
    return np.append(values.distances, np.float32(OUTSIDE))[rows]


def _crossed_cubes(values: GridValues) -> Int64[np.ndarray, "S 3"]:
    """The cubes with vertices both inside and outside. All of them touch a vertex inside."""
    inside = values.vertices()[values.distances < 0]
    around = (inside[:, None] - corners_of(np.zeros((1, 3), np.int64))).reshape(-1, 3)
    around = around[((around >= 0) & (around < values.resolution)).all(axis=1)]
    keys = np.unique(values.keys_of(around))
    cubes = np.stack(np.unravel_index(keys, (values.resolution + 1,) * 3), axis=1)
    is_outside = _distances(values, values.row_of(values.keys_of(corners_of(cubes)))) >= 0
    return cubes[is_outside.any(axis=1)]
