# SPDX-License-Identifier: Apache-2.0
"""A surface is fitted where there are points, small gaps are bridged, and what nothing supports stays open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import trimesh

from img3d_assets.meshing import cloud_surface
from img3d_assets.meshing.cloud_surface import CloudSurfaceOptions, surface_of_cloud
from img3d_assets.meshing.poisson import screened_poisson
from img3d_assets.point_cloud import PointCloud
from img3d_base.errors import InputError

OPTIONS = CloudSurfaceOptions(max_points=20_000, faces=4000)
RADIUS = 3.0


def ball(count: int = 6000, seed: int = 0) -> PointCloud:
    """Points of a sphere around (10, 0, 0), red above and blue below."""
    normals = np.random.default_rng(seed).standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colors = np.where(normals[:, 2:] > 0, [1.0, 0, 0], [0.0, 0, 1]).astype(np.float32)
    return PointCloud([10.0, 0, 0] + RADIUS * normals, colors, normals.astype(np.float32))


def test_a_closed_surface_is_closed_and_where_the_points_are() -> None:
    mesh = surface_of_cloud(ball(), OPTIONS)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight
    assert 0 < len(mesh.faces) <= OPTIONS.faces
    off = mesh.vertices - [10, 0, 0]
    np.testing.assert_allclose(np.linalg.norm(off, axis=1), RADIUS, rtol=0.01)
    above, below = off[:, 2] > 0.5, off[:, 2] < -0.5
    assert (mesh.colors[above] == [1, 0, 0]).all() and (mesh.colors[below] == [0, 0, 1]).all()


def test_cells_are_no_finer_than_the_triangles_that_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def recorded(points: Any, normals: Any, depth: int, scale: float, linear_fit: bool) -> Any:
        vertices, faces = screened_poisson(points, normals, depth, scale, linear_fit)
        made.append(len(faces))
        return vertices, faces

    monkeypatch.setattr(cloud_surface, "screened_poisson", recorded)
    for wanted in (100_000, 1500):
        mesh = surface_of_cloud(ball(), CloudSurfaceOptions(max_points=20_000, faces=wanted))
        np.testing.assert_allclose(np.linalg.norm(mesh.vertices - [10, 0, 0], axis=1), RADIUS, rtol=0.02)
    assert made[0] > 6000 and 1500 < made[1] < made[0] / 2


def test_outward_stays_outward() -> None:
    mesh = surface_of_cloud(ball(), OPTIONS)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0.95 * 4 / 3 * np.pi * RADIUS**3


def test_what_no_point_supports_stays_open() -> None:
    cloud = ball(9000)
    mesh = surface_of_cloud(cloud[cloud.normals[:, 2] > 0], OPTIONS)
    assert mesh.vertices[:, 2].min() > -0.5
    assert not trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def test_surface_in_free_space_is_removed() -> None:
    mesh = surface_of_cloud(ball(9000), OPTIONS, lambda points: points[:, 2] < 0)
    assert -0.1 < mesh.vertices[:, 2].min() and mesh.vertices[:, 2].max() > 0.95 * RADIUS


def test_a_small_gap_is_bridged() -> None:
    cloud = ball(20_000)
    off_pole = RADIUS * np.hypot(cloud.normals[:, 0], cloud.normals[:, 1])
    mesh = surface_of_cloud(cloud[(off_pole > 0.35) | (cloud.normals[:, 2] < 0)], OPTIONS)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).is_watertight


def test_an_outlier_far_away_does_not_coarsen_the_surface() -> None:
    cloud = ball()
    far = PointCloud(np.array([[900.0, 0, 0]]), cloud.colors[:1], cloud.normals[:1])
    both = PointCloud(
        *(np.concatenate([getattr(cloud, key), getattr(far, key)]) for key in ("points", "colors", "normals"))
    )
    mesh = surface_of_cloud(both, OPTIONS)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - [10, 0, 0], axis=1), RADIUS, rtol=0.02)


def test_too_few_points_are_said() -> None:
    with pytest.raises(InputError, match="Only 50 points"):
        surface_of_cloud(ball(50), OPTIONS)
