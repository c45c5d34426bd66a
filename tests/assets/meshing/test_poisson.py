# SPDX-License-Identifier: Apache-2.0
"""Poisson's surface bridges what the given one leaves open, or leaves it open as well; it moves nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from img3d_assets.meshing.cleaning import compacted
from img3d_assets.meshing.poisson import poisson_surface


@pytest.mark.parametrize("closed", [True, False])
def test_a_large_hole_is_bridged_on_request(closed: bool) -> None:
    ball = trimesh.creation.icosphere(4, radius=20)
    kept = ball.vertices[ball.faces][..., 2].max(axis=1) < 18.5
    vertices, faces = poisson_surface(*compacted(np.asarray(ball.vertices), np.asarray(ball.faces[kept])), closed)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight == closed
    body = vertices[vertices[:, 2] < 16]
    assert np.abs(np.linalg.norm(body, axis=1) - 20).max() < 0.5
    outward = (mesh.face_normals * mesh.triangles_center).sum(axis=1)[mesh.triangles_center[:, 2] < 16]
    assert outward.min() > 0
