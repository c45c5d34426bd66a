# SPDX-License-Identifier: Apache-2.0
"""A triplane with TripoSR's small network, fitted to renders of a shape by `tools/fit_triplane.py`, is that shape:
field, ray marching with its gradients, mesh and colours together."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
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


@pytest.fixture(scope="module")
def fit_triplane() -> Iterator[ModuleType]:
    """The tool, with few points and samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOLS), *sys.path])
        tool = importlib.import_module("fit_triplane")
        patch.setattr(tool, "NUM_SAMPLES", 40)
        patch.setattr(tool, "NUM_POINTS", 40_000)
        patch.setattr(tool, "GRID", 32)
        yield tool


def fitted(tool: ModuleType, shape: Mesh) -> TriplaneField:
    """TripoSR's field with half its planes' sides, fitted to 60 renders of a mesh that is placed."""
    return tool.fit(shape, TriposrConfig(plane_size=16), num_views=60, size=64, steps=(150, 30), count=1536)


def mesh_of(field: TriplaneField) -> Mesh:
    """As `img3d-export mesh` makes it."""
    return next(levels_of_field(field, textured=False, options=MeshOptions(resolution=96)))


@pytest.mark.slow
def test_a_fitted_triplane_is_the_shape(fit_triplane: ModuleType) -> None:
    mesh, outside = two_balls()
    shape = fit_triplane.placed(mesh)
    made = mesh_of(fitted(fit_triplane, shape))
    surface, diameter = shape.vertices[outside], 2 * fit_triplane.OBJECT_RADIUS
    to_shape, nearest = KDTree(surface).query(made.vertices)
    to_mesh, _ = KDTree(made.vertices).query(surface)
    assert np.mean(to_shape) < LARGEST_ERROR * diameter
    assert np.mean(to_mesh) < LARGEST_ERROR * diameter
    assert np.abs(made.colors - shape.colors[outside][nearest]).mean() < 0.1


@pytest.mark.slow
def test_a_fitted_triplane_is_spot(fit_triplane: ModuleType, data_dir: Path) -> None:
    file = data_dir / "meshes" / "spot" / "spot.obj"
    if not file.is_file():
        pytest.skip(f"no {file}")
    mesh, mesh.up = read_mesh(file)
    shape = fit_triplane.placed(mesh)
    made = mesh_of(fitted(fit_triplane, shape))
    found = fit_triplane.compared(made, shape)
    assert found.to_expected.mean() < LARGEST_ERROR and found.to_made.mean() < LARGEST_ERROR, str(found)
    assert found.f_score > 0.6, str(found)
