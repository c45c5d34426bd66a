# SPDX-License-Identifier: Apache-2.0
"""FlexiCubes: the reference's meshes as sets, and closed surfaces that all look outwards."""

from __future__ import annotations

import numpy as np
import pytest
from golden import Golden, golden_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from mesh_sets import assert_same_mesh
from scipy.special import expit

from img3d_assets.meshing.cleaning import is_watertight
from img3d_assets.meshing.dual_cases import cases
from img3d_assets.meshing.flexicubes import DualSurface, case_of, corners_of, flexicubes, surface_cubes


def extracted(
    values: np.ndarray, positions: np.ndarray, weights: np.ndarray | None = None, weight_scale: float = 0.99
) -> DualSurface:
    """The surface of a whole grid; weights of all its cubes `[.., .., .., 21]`."""
    cubes = surface_cubes(values)
    corners = tuple(np.moveaxis(corners_of(cubes), -1, 0))
    own = None if weights is None else weights[tuple(cubes.T)]
    return flexicubes(cubes, values[corners], positions[corners], own, weight_scale)


def grid(*resolution: int) -> Float[np.ndarray, "X Y Z 3"]:
    """Vertices in the box [-0.5, 0.5]^3, as the reference rounds them."""
    sides = [np.round(np.arange(n + 1, dtype=np.float32) / n, 5) - np.float32(0.5) for n in resolution]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1)


@golden_fixtures("flexicubes")
def test_the_surface_is_the_references(golden: Golden) -> None:
    for name, case in golden.sidecar["config"].items():
        arrays = {key.removeprefix(f"{name}_"): value for key, value in golden.arrays.items() if key.startswith(name)}
        resolution = case["res"]
        values = arrays["sdf"].reshape([n + 1 for n in resolution])
        positions = grid(*resolution)
        if case["deformation"]:
            positions = positions + arrays["deform"].reshape(positions.shape)
        cubes = surface_cubes(values)
        number = np.ravel_multi_index(tuple(cubes.T), resolution)
        np.testing.assert_array_equal(number, arrays["surface_cubes"])
        corners = tuple(np.moveaxis(corners_of(cubes), -1, 0))
        np.testing.assert_array_equal(case_of(values[corners]), arrays["case_ids_raw"])
        colors = expit(arrays["colour"]).reshape(*values.shape, -1)[corners] if "colour" in arrays else None
        weights = arrays["weights"][number] if case["weights"] else None
        made = flexicubes(cubes, values[corners], positions[corners], weights, case["weight_scale"], colors)
        tolerance = golden.tolerance(f"{name}_vertices", 1e-6)
        expected = arrays["vertices"], arrays["faces"]
        # The reference's triangles look inwards at edges that start where the field is exactly 0; ours do not.
        order = assert_same_mesh(made.vertices, made.faces, *expected, tolerance, winding=bool((values != 0).all()))
        if colors is not None:
            assert abs(made.attributes[order] - arrays["vertex_colour"]).max() < golden.tolerance(
                f"{name}_vertex_colour", 1e-6
            )


@golden_fixtures("flexicubes", "single_count")
def test_a_single_cube_has_the_references_vertices(golden: Golden) -> None:
    np.testing.assert_array_equal(cases().num_vertices[1:-1], golden.arrays["single_count"])
    found = []
    for case in range(1, 255):
        signs = np.where(case >> np.arange(8) & 1, -1, 1)
        values = (signs * golden.arrays["single_magnitudes"]).reshape(2, 2, 2).transpose(2, 1, 0)
        vertices = extracted(values, grid(1, 1, 1)).vertices
        found.append(vertices[np.lexsort(vertices.T)])
    expected = np.split(golden.arrays["single_vertices"], np.cumsum(golden.arrays["single_count"])[:-1])
    expected = np.concatenate([vertices[np.lexsort(vertices.T)] for vertices in expected])
    np.testing.assert_allclose(np.concatenate(found), expected, atol=golden.tolerance("single_vertices", 1e-6))


def test_a_turned_case_is_crossed_by_the_same_edges() -> None:
    tables = cases()
    assert (tables.num_vertices[[0, 255]] == 0).all() and tables.num_vertices.max() == 4
    np.testing.assert_array_equal(tables.vertex_of_edge < 0, tables.vertex_of_edge[::-1] < 0)
    assert tables.toward_ambiguous.any(axis=1).sum() == 36


@pytest.mark.parametrize(("shape", "euler"), [("sphere", 2), ("torus", 0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_surfaces_are_closed_look_outwards_and_lie_where_they_should(shape: str, euler: int, weighted: bool) -> None:
    positions = grid(24, 24, 24).astype(np.float64)
    values = distance(shape, positions)
    weights = np.random.default_rng(0).normal(scale=0.1, size=(24, 24, 24, 21)) if weighted else None
    made = extracted(values, positions, weights)
    assert is_watertight(made.vertices, made.faces)
    assert len(made.vertices) - len(made.faces) * 3 // 2 + len(made.faces) == euler
    a, b, c = (made.vertices[corner] for corner in made.faces.T)
    assert (np.cross(a, b) * c).sum() > 0
    assert abs(distance(shape, made.vertices)).max() < (0.006 if weighted else 0.004)


def distance(shape: str, points: np.ndarray) -> np.ndarray:
    """The signed distance of points from a sphere or a torus, negative inside."""
    if shape == "sphere":
        return np.linalg.norm(points, axis=-1) - 0.36
    ring = np.linalg.norm(points[..., [0, 2]], axis=-1) - 0.29
    return np.hypot(ring, points[..., 1]) - 0.13


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6), integers=st.booleans(), weighted=st.booleans())
def test_surfaces_of_noise_have_no_holes_and_one_side(seed: int, size: int, integers: bool, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    values = np.ones((size + 3, size + 4, size + 5))
    inner = random.normal(size=(size + 1, size + 2, size + 3))
    values[1:-1, 1:-1, 1:-1] = np.round(inner) if integers else inner
    positions = grid(size + 2, size + 3, size + 4)
    weights = random.normal(size=(size + 2, size + 3, size + 4, 21)) if weighted else None
    made = extracted(values, positions, weights)
    corners = np.concatenate([made.faces, made.faces[:, :1]], axis=1)
    forward = np.stack([corners[:, :-1].ravel(), corners[:, 1:].ravel()], axis=1)
    for edges in (forward, forward[:, ::-1]):
        assert len(np.unique(edges, axis=0)) == len(edges)  # at most one face on each side of an edge
    np.testing.assert_array_equal(np.unique(forward, axis=0), np.unique(forward[:, ::-1], axis=0))
    assert np.isfinite(made.vertices).all()


def test_the_order_of_cubes_does_not_matter() -> None:
    positions = grid(9, 9, 9)
    values = np.random.default_rng(2).normal(size=positions.shape[:3])
    cubes = surface_cubes(values)
    shuffled = np.random.default_rng(3).permutation(cubes)
    made = []
    for each in (cubes, shuffled):
        corners = tuple(np.moveaxis(corners_of(each), -1, 0))
        made.append(flexicubes(each, values[corners], positions[corners]))
    np.testing.assert_array_equal(made[0].vertices, made[1].vertices)
    np.testing.assert_array_equal(made[0].faces, made[1].faces)


def test_nothing_has_no_surface() -> None:
    made = extracted(np.ones((4, 4, 4)), grid(3, 3, 3))
    assert made.vertices.shape == (0, 3) and made.faces.shape == (0, 3)
