# SPDX-License-Identifier: Apache-2.0
"""Surfaces of fields: where they lie, coarse to fine as dense, and their colours."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from triplanes import ball_field, random_field

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.meshing.cleaning import is_watertight
from img3d_assets.meshing.field_surface import colors_at, painted, sampled, surface_of
from img3d_base.errors import InputError


def test_a_ball_is_closed_outward_and_where_it_should_be() -> None:
    mesh = surface_of(ball_field(), 40)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5, atol=0.01)
    assert is_watertight(mesh.vertices, mesh.faces)
    a, b, c = (mesh.vertices[corner] for corner in mesh.faces.T)
    assert (np.cross(a, b) * c).sum() > 0
    assert mesh.up == "z"


def test_vertices_have_the_fields_colours() -> None:
    mesh = surface_of(ball_field(), 24)
    red = 1 / (1 + np.exp(-6 * mesh.vertices[:, 0]))
    np.testing.assert_allclose(mesh.colors, np.stack([red, *[np.full_like(red, 0.5)] * 2], axis=1), atol=0.03)


def test_a_texture_has_the_fields_colours() -> None:
    mesh = painted(surface_of(ball_field(), 16), partial(colors_at, ball_field()), 128)
    assert mesh.uvs is not None and mesh.texture is not None and mesh.texture.shape == (128, 128, 3)
    columns, rows = (mesh.uvs * [128, -128] + [0, 128]).astype(int).clip(0, 127).T
    red = 255 / (1 + np.exp(-6 * mesh.vertices[:, 0]))
    assert np.abs(mesh.texture[rows, columns, 0] - red).mean() < 6


@pytest.mark.parametrize("resolution", [16, 41, 64])
@pytest.mark.parametrize("kind", ["ball", "noise", "small ball"])
def test_coarse_to_fine_gives_the_vertices_of_the_dense_lattice(kind: str, resolution: int) -> None:
    field = random_field() if kind == "noise" else ball_field(0.15 if kind == "small ball" else 0.5)
    level = float(field.query(torch.rand(1000, 3))[0].median()) if kind == "noise" else None
    fast, dense = (surface_of(field, resolution, level, dense) for dense in (False, True))
    np.testing.assert_array_equal(fast.vertices, dense.vertices)
    np.testing.assert_array_equal(fast.faces, dense.faces)


def test_few_samples_are_evaluated_away_from_the_surface() -> None:
    evaluated = []
    field = ball_field()

    def density_at(points: np.ndarray) -> np.ndarray:
        evaluated.append(len(points))
        return field.query(torch.from_numpy(points))[0].numpy()

    sampled(density_at, np.full(3, -1.0), np.ones(3), 97, field.surface_density)
    assert sum(evaluated) < 0.3 * 97**3


def test_a_field_without_a_surface_is_refused(empty: TriplaneField) -> None:
    with pytest.raises(InputError, match="nowhere dense enough"):
        surface_of(empty, 16)
    with pytest.raises(InputError, match="fills its whole box"):
        surface_of(empty, 16, level=1e-9)


@pytest.fixture
def empty() -> TriplaneField:
    field = random_field()
    with torch.no_grad():
        for weight in field.mlp.layers[-1].parameters():
            weight.zero_()
    return field
