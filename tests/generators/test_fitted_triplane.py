# SPDX-License-Identifier: Apache-2.0
"""A triplane with TripoSR's small network, fitted to renders of a shape by `tools/fit_triplane.py`, is that shape:
field, ray marching with its gradients, mesh and colours together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from img3d_assets.mesh import Mesh
from img3d_exporters.meshes.mesh_of_run import MeshOptions, levels_of_field
from img3d_generators.triposr.network import TriposrConfig

TOOLS = Path(__file__).resolve().parents[2] / "tools"
LARGEST_ERROR = 0.015
"""Of the mean distance between the surfaces, in both directions, relative to the object's diameter."""


def two_balls() -> tuple[Mesh, np.ndarray]:
    """Two balls that overlap, coloured by position; and which vertices are on the outside."""
    large, small = trimesh.creation.icosphere(4, 0.35), trimesh.creation.icosphere(4, 0.22)
    small.apply_translation([0.3, 0.25, 0])
    vertices = np.concatenate([large.vertices, small.vertices])
    faces = np.concatenate([large.faces, small.faces + len(large.vertices)])
    centers, radii = np.array([[0, 0, 0], [0.3, 0.25, 0]]), np.array([0.35, 0.22])
    distances = np.linalg.norm(vertices[:, None] - centers, axis=-1) - radii
    colors = 0.5 + 0.5 * np.sin(6 * vertices)
    mesh = Mesh(vertices.astype(np.float32), faces, colors.astype(np.float32), up="y")
    return mesh, distances.min(axis=1) > -1e-3


@pytest.mark.slow
def test_a_fitted_triplane_is_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    import fit_triplane

    monkeypatch.setattr(fit_triplane, "NUM_SAMPLES", 40)
    mesh, outside = two_balls()
    shape = fit_triplane.placed(mesh)
    field = fit_triplane.fit(shape, TriposrConfig(plane_size=16), num_views=24, size=64, steps=220, num_rays=192)
    made = next(levels_of_field(field, textured=False, options=MeshOptions(resolution=64)))
    surface, diameter = shape.vertices[outside], 2 * fit_triplane.OBJECT_RADIUS
    to_shape, nearest = KDTree(surface).query(made.vertices)
    to_mesh, _ = KDTree(made.vertices).query(surface)
    assert np.mean(to_shape) < LARGEST_ERROR * diameter
    assert np.mean(to_mesh) < LARGEST_ERROR * diameter
    assert np.abs(made.colors - shape.colors[outside][nearest]).mean() < 0.1
