# SPDX-License-Identifier: Apache-2.0
"""Cleaning leaves the object and drops crumbs; decimation keeps the shape; watertight is what others call so."""

from __future__ import annotations

import numpy as np
import open3d as o3d
import pytest
import trimesh

from img3d_assets.meshing import cleaning as mesh_cleaning
from img3d_assets.meshing.cleaning import cleaned, decimated, is_watertight, watertight
from img3d_base.errors import InputError

BALL = trimesh.creation.icosphere(4)  # 5120 faces
Arrays = tuple[np.ndarray, np.ndarray]


def arrays(*meshes: trimesh.Trimesh) -> Arrays:
    together = trimesh.util.concatenate(meshes)
    return np.asarray(together.vertices), np.asarray(together.faces)


def opened_at(height: float) -> Arrays:
    """The ball without what is above that height."""
    above = BALL.vertices[BALL.faces][..., 2].max(axis=1) > height
    return np.asarray(BALL.vertices), np.asarray(BALL.faces[~above])


def others_call_it_watertight(vertices: np.ndarray, faces: np.ndarray) -> bool:
    in_open3d = o3d.geometry.TriangleMesh(o3d.utility.Vector3dVector(vertices), o3d.utility.Vector3iVector(faces))
    return trimesh.Trimesh(vertices, faces, process=False).is_watertight and in_open3d.is_watertight()


def test_small_parts_are_dropped_and_large_ones_stay() -> None:
    crumb = trimesh.creation.icosphere(1, radius=0.05).apply_translation([2, 0, 0])
    second = trimesh.creation.icosphere(3).apply_translation([4, 0, 0])
    vertices, faces = cleaned(*arrays(BALL, crumb, second))
    assert len(faces) == len(BALL.faces) + len(second.faces)
    assert not (np.abs(vertices[:, 0] - 2) < 0.5).any()


def test_small_holes_are_closed_and_openings_stay() -> None:
    assert trimesh.Trimesh(*cleaned(*opened_at(0.98)), process=False).is_watertight
    assert not trimesh.Trimesh(*cleaned(*opened_at(0.0)), process=False).is_watertight


def test_defects_are_removed() -> None:
    vertices, faces = arrays(BALL)
    fin = [faces[0, 0], faces[0, 1], len(vertices)]  # a third face at an edge
    tip = 1.01 * vertices[faces[0, :2]].mean(axis=0)
    vertices = np.concatenate([vertices, [tip], [[7.0, 7.0, 7.0]]])  # and a vertex of no face
    faces = np.concatenate([faces, [fin], faces[:1], [[5, 5, 6]]])
    vertices, faces = cleaned(vertices, faces)
    assert others_call_it_watertight(vertices, faces)
    assert np.linalg.norm(vertices, axis=1).max() < 1.01


@pytest.mark.parametrize("target", [2000, 100])
def test_decimation_reaches_the_count_and_keeps_the_shape(target: int) -> None:
    vertices, faces = decimated(*arrays(BALL), target)
    assert 0.95 * target <= len(faces) <= target
    assert others_call_it_watertight(vertices, faces)
    assert trimesh.Trimesh(vertices, faces).volume == pytest.approx(BALL.volume, rel=0.01 if target == 2000 else 0.1)


def test_what_is_in_the_way_of_the_count_gives_way() -> None:
    """Many small sheets, none of which can have less than one face."""
    rng = np.random.default_rng(0)
    vertices = np.repeat(rng.normal(size=(200, 3)), 3, axis=0) + 0.1 * rng.normal(size=(600, 3))
    assert len(decimated(vertices, np.arange(600).reshape(-1, 3), 100)[1]) <= 100


def test_few_faces_are_left_alone() -> None:
    vertices, faces = arrays(BALL)
    assert decimated(vertices, faces, 10_000)[1] is faces


@pytest.mark.parametrize("height", [0.98, 0.3, -0.5])
def test_watertight_is_what_others_call_so(height: float) -> None:
    vertices, faces = opened_at(height)
    assert not is_watertight(vertices, faces)
    vertices, faces = watertight(vertices, faces, 1000, detail=0.05)
    assert len(faces) <= 1000
    assert others_call_it_watertight(vertices, faces) and is_watertight(vertices, faces)


def test_faces_that_cut_others_are_not_watertight() -> None:
    vertices, faces = arrays(BALL, trimesh.creation.icosphere(4).apply_translation([0.5, 0, 0]))
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight
    assert not is_watertight(vertices, faces)


def test_a_sheet_becomes_a_thick_one() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    solid = trimesh.Trimesh(*watertight(vertices, np.array([[0, 1, 2]]), 1000, detail=0.05), process=False)
    assert others_call_it_watertight(np.asarray(solid.vertices), np.asarray(solid.faces))
    assert 0.5 * 0.03 < solid.volume < 0.5 * 0.2


def test_what_is_not_watertight_is_not_claimed_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_cleaning, "is_watertight", lambda vertices, faces: False)
    with pytest.raises(InputError, match="could not be made watertight"):
        watertight(*opened_at(0.98), 1000, detail=0.2)
