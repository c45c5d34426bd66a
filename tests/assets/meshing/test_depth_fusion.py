# SPDX-License-Identifier: Apache-2.0
"""Fusing exact depth gives the surface back, whatever the units; what most pictures see through is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_pictures import pictures_around, scene_of, viewmat_at

from img3d_assets.meshing.depth_fusion import fused, region_of, surface_depth
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_base.errors import InputError

VOXELS = 48


def fused_pictures(pictures: list[SurfaceView]) -> tuple[trimesh.Trimesh, float]:
    """The mesh in the pictures' world, and its voxel."""
    region = region_of(pictures, None, None)
    voxel = (region.high - region.low).max() / VOXELS
    frame = np.column_stack([np.eye(3), region.low / voxel]), voxel
    local = [picture.in_frame(*frame) for picture in pictures]
    vertices, faces = fused(local, (region.high - region.low) / voxel)
    return trimesh.Trimesh(vertices * voxel + region.low, faces, process=False), voxel


@pytest.mark.parametrize("shape", [trimesh.creation.icosphere(4), trimesh.creation.box((1.0, 0.7, 1.3))])
def test_the_surface_is_the_truth(shape: trimesh.Trimesh) -> None:
    found, voxel = fused_pictures(pictures_around(shape, 32))
    distances = scene_of(shape).compute_distance(np.asarray(found.vertices, np.float32)).numpy()
    assert distances.mean() < 0.3 * voxel and distances.max() < 1.2 * voxel  # edges and corners are rounded
    assert found.is_watertight
    assert found.volume == pytest.approx(shape.volume, rel=0.025)  # and positive: faces are turned outward


@settings(max_examples=8, deadline=None)
@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1e6, 1e6))
def test_units_and_origin_make_no_difference(scale: float, offset: float) -> None:
    sphere = trimesh.creation.icosphere(3)
    pictures = pictures_around(sphere, 12, 48)
    near, _ = fused_pictures(pictures)
    # x = (x' - offset) / scale
    moved = [each.in_frame(np.column_stack([np.eye(3), np.full(3, -offset)]), 1 / scale) for each in pictures]
    far, _ = fused_pictures(moved)
    assert len(far.vertices) == pytest.approx(len(near.vertices), rel=0.01)
    radii = np.linalg.norm((far.vertices - offset) / scale, axis=1)
    assert np.abs(radii - 1).max() < 0.045  # a voxel


def test_what_most_pictures_see_through_is_carved_away() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(4), 32)
    for i in (3, 17):
        depth = pictures[i].depth.copy()
        depth[10:30, 10:30] = 2.5  # in mid-air, beside the ball
        pictures[i] = replace(pictures[i], depth=depth)
    found, voxel = fused_pictures(pictures)
    assert np.abs(np.linalg.norm(found.vertices, axis=1) - 1).max() < voxel


def test_what_is_not_known_carves_nothing() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(4), 32)
    blind = [replace(each, depth=np.zeros_like(each.depth)) for each in pictures]
    found, voxel = fused_pictures(pictures + blind)
    assert np.abs(np.linalg.norm(found.vertices, axis=1) - 1).max() < voxel
    assert found.is_watertight


def test_of_many_pictures_two_must_have_seen_a_surface() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(4), 32)
    blind = [replace(each, depth=np.zeros_like(each.depth)) for each in pictures[1:]]
    with pytest.raises(InputError, match="do not agree on any surface"):
        fused_pictures([pictures[0], *blind])
    found, voxel = fused_pictures([*pictures[:2], *blind[1:9]])
    assert np.abs(np.linalg.norm(found.vertices, axis=1) - 1).max() < voxel


def test_of_many_pictures_another_one_must_confirm_a_depth() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(4), 32)
    right, wrong = [], []
    for i, each in enumerate(pictures):
        is_wrong = i % 3 == 1
        wrong.append(replace(each, depth=each.depth * np.float32(1.04 + 0.002 * i)) if is_wrong else each)
        right.append(replace(each, depth=np.zeros_like(each.depth)) if is_wrong else each)
    found, truth = (fused_pictures(each)[0] for each in (wrong, right))
    off, usual = (np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).mean() for mesh in (found, truth))
    assert off < 1.7 * usual


def test_depth_between_two_surfaces_is_not_known() -> None:
    depth = np.full((8, 9), 2.0, np.float32)
    depth[:, 4:] = 3.0
    depth[:, 7:] = np.inf
    view = SurfaceView(np.zeros((8, 9, 3), np.float32), depth, np.eye(4), np.eye(3))
    assert surface_depth(view)[3].tolist() == [2, 2, 2, 0, 0, 3, 0, np.inf, np.inf]


def wall(distance: float, size: int = 64) -> SurfaceView:
    """A camera at the origin that looks along z, at a wall with a box in front of it."""
    depth = np.full((size, size), distance, np.float32)
    depth[24:40, 24:40] = 2.0
    K = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    return SurfaceView(np.zeros((size, size, 3), np.float32), depth, np.eye(4), K)


def test_the_region_is_what_inward_cameras_surround() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(3), 24)
    behind = [replace(each, depth=np.where(np.isinf(each.depth), np.float32(50), each.depth)) for each in pictures]
    region = region_of(behind, None, None)
    # A margin of 3 % of the extent of 2; the outermost pixels are a little inside of the sphere's outline.
    assert np.abs(region.low + 1.06).max() < 2e-3 and np.abs(region.high - 1.06).max() < 2e-3
    assert region_of([wall(30.0)], None, None).high[2] > 25  # one camera surrounds nothing


def test_a_crop_sets_the_region_where_it_is_given() -> None:
    pictures = pictures_around(trimesh.creation.icosphere(3), 24)
    region = region_of(pictures, (-5.0, 0.0, 0.1), None)
    assert region.low.tolist() == [-5.0, 0.0, 0.1]
    # The sphere and the margin of 3 %, which is of what the crop leaves.
    assert ((region.high > 1.045) & (region.high < 1.061)).all()


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ((3.0, 3.0, 3.0), (4.0, 4.0, 4.0), "no surface between .* what is in view is between"),
        ((1.0, 0.0, 0.0), (0.5, 1.0, 1.0), "--crop-min .* is not below --crop-max"),
        ((float("nan"), 0.0, 0.0), (1.0, 1.0, 1.0), "is not below"),
    ],
)
def test_an_empty_crop_is_one_line(
    low: tuple[float, float, float], high: tuple[float, float, float], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        region_of(pictures_around(trimesh.creation.icosphere(2), 6, 32), low, high)
    assert "\n" not in str(error.value)


def test_nothing_in_view_is_one_line() -> None:
    empty = SurfaceView(
        np.zeros((8, 8, 3), np.float32),
        np.full((8, 8), np.inf, np.float32),
        viewmat_at(np.array([0.0, 0, 3]), np.zeros(3)),
        np.eye(3),
    )
    with pytest.raises(InputError, match="no surface in view"):
        region_of([empty], None, None)
