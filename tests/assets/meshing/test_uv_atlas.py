# SPDX-License-Identifier: Apache-2.0
"""Every face has a place of its own in the texture, and every texel knows its point of the surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from textured_meshes import grey_mesh

from img3d_assets.mesh import Mesh
from img3d_assets.meshing import uv_atlas
from img3d_assets.meshing.uv_atlas import Texels, texels_of, unwrapped, with_gutters

SHAPES = {
    "sphere": trimesh.creation.icosphere(3),
    "box": trimesh.creation.box((1.0, 2.0, 0.5)),
    "torus": trimesh.creation.torus(1.0, 0.3),
    "two": trimesh.util.concatenate([trimesh.creation.icosphere(1), trimesh.creation.box((1, 1, 5))]),
}


def uv_areas(mesh: Mesh) -> np.ndarray:
    assert mesh.uvs is not None
    a, b, c = (mesh.uvs[corner].astype(np.float64) for corner in mesh.faces.T)
    return np.abs(np.cross(b - a, c - a)) / 2


def check_atlas(shape: Mesh, size: int) -> None:
    mesh = unwrapped(shape, size)
    assert mesh.uvs is not None
    assert np.array_equal(mesh.vertices[mesh.faces], shape.vertices[shape.faces])
    assert np.array_equal(mesh.colors[mesh.faces], shape.colors[shape.faces])
    assert mesh.uvs.min() >= 0 and mesh.uvs.max() <= 1

    texels = texels_of(mesh, size)
    assert (np.diff(texels.pixels) > 0).all()
    # The texel's point on its face has the texel's own coordinates ...
    rows, columns = np.divmod(texels.pixels, size)
    centers = np.stack([columns + 0.5, size - rows - 0.5], axis=1) / size
    np.testing.assert_allclose(texels.interpolated(mesh.uvs, mesh), centers, atol=1e-4)
    # ... and as many texels as the faces have area: none lies on two.
    area = uv_areas(mesh).sum() * size**2
    assert len(texels) == pytest.approx(area, rel=0.02, abs=4 * np.sqrt(area) + 8)


@pytest.mark.parametrize("name", SHAPES)
def test_faces_do_not_overlap(name: str) -> None:
    check_atlas(grey_mesh(SHAPES[name]), 256)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), offset=st.floats(-1e5, 1e5))
def test_any_closed_surface_anywhere(seed: int, scale: float, offset: float) -> None:
    cloud = np.random.default_rng(seed).normal(size=(30, 3))
    shape = grey_mesh(trimesh.convex.convex_hull(cloud))
    check_atlas(replace(shape, vertices=shape.vertices * scale + offset), 128)


def test_large_meshes_are_taken_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv_atlas, "MAX_PIECE", 100)
    for name in ("sphere", "two"):
        check_atlas(grey_mesh(SHAPES[name]), 256)


def test_charts_have_the_same_scale() -> None:
    mesh = unwrapped(grey_mesh(SHAPES["two"]), 256)
    ratios = uv_areas(mesh) / trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).area_faces
    assert ratios.max() / ratios.min() < 1.5


def test_degenerate_faces_cost_nothing() -> None:
    shape = SHAPES["sphere"]
    mesh = Mesh(
        np.asarray(shape.vertices),
        np.concatenate([shape.faces, [[0, 0, 1], [5, 5, 5]]]),
        np.zeros((len(shape.vertices), 3), np.float32),
    )
    texels = texels_of(unwrapped(mesh, 128), 128)
    assert texels.faces.max() < len(shape.faces)


def test_gutters_have_the_colour_of_the_nearest_texel() -> None:
    rng = np.random.default_rng(0)
    filled = np.sort(rng.choice(64 * 48, 40, replace=False))
    texture = np.zeros((64, 48, 3), np.uint8)
    texture.reshape(-1, 3)[filled] = rng.integers(1, 255, (40, 3))
    whole = with_gutters(texture, filled)
    places = np.stack(np.divmod(filled, 48), axis=1)
    for row, column in rng.integers(0, (64, 48), (200, 2)):
        distances = np.linalg.norm(places - [row, column], axis=1)
        near = filled[distances < 1.1 * distances.min() + 1e-6]  # the distance is known within a few percent
        assert (texture.reshape(-1, 3)[near] == whole[row, column]).all(axis=1).any()
    assert np.array_equal(whole.reshape(-1, 3)[filled], texture.reshape(-1, 3)[filled])


def test_some_texels_are_texels_too() -> None:
    mesh = unwrapped(grey_mesh(SHAPES["box"]), 64)
    texels = texels_of(mesh, 64)
    chosen = np.array([3, 50, 7])
    np.testing.assert_array_equal(
        texels[chosen].interpolated(mesh.vertices, mesh), texels.interpolated(mesh.vertices, mesh)[chosen]
    )
    assert isinstance(texels[chosen], Texels) and len(texels[chosen]) == 3
