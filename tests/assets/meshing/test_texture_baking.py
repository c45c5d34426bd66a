# SPDX-License-Identifier: Apache-2.0
"""A baked texture has the colours that the surface had in the pictures, and nothing of what was in front of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from splat_scenes import psnr
from surface_pictures import pictures_around
from textured_meshes import grey_mesh, painted, points_with_colors, waves

from img3d_assets.mesh import Mesh
from img3d_assets.meshing import texture_baking
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_assets.meshing.texture_baking import baked
from img3d_base.errors import InputError

SPHERE = trimesh.creation.icosphere(4)
BOX = trimesh.creation.box((1.0, 1.4, 0.8))
MAGENTA = np.array([1.0, 0, 1])


def pictures(shape: trimesh.Trimesh, count: int = 14, size: int = 200) -> list[SurfaceView]:
    return [painted(view, waves) for view in pictures_around(shape, count, size)]


def agreement(mesh: Mesh) -> float:
    """PSNR of the texture against the paint."""
    points, colors = points_with_colors(mesh)
    return psnr(colors[None], waves(points)[None])


@pytest.mark.parametrize("shape", [SPHERE, BOX, trimesh.creation.torus(1.0, 0.4)])
def test_the_texture_has_the_colours_of_the_pictures(shape: trimesh.Trimesh) -> None:
    mesh = baked(grey_mesh(shape), pictures(shape), 256)
    assert mesh.texture is not None and mesh.texture.shape == (256, 256, 3)
    assert agreement(mesh) > 46  # texels are as large as pixels: the paint changes by so much within one


def test_pictures_are_gone_through_once() -> None:
    assert agreement(baked(grey_mesh(SPHERE), iter(pictures(SPHERE)), 256)) > 50


def test_far_from_the_origin_it_is_the_same() -> None:
    views = [view.in_frame(np.column_stack([np.eye(3), np.full(3, -2e5)]), 1.0) for view in pictures(BOX)]
    shape = grey_mesh(BOX)
    mesh = baked(replace(shape, vertices=shape.vertices + 2e5), views, 256)
    assert agreement(replace(mesh, vertices=mesh.vertices - 2e5)) > 48


def test_nothing_bleeds_onto_what_is_behind() -> None:
    """A magenta plate hides some of the box from some cameras; both are of the mesh."""
    plate = trimesh.creation.box((0.8, 0.02, 0.8)).apply_translation((0, 1.2, 0))
    both = trimesh.util.concatenate([BOX, plate])
    views = [
        painted(view, lambda points: np.where(points[..., 1:2] > 1.1, MAGENTA, waves(points)))
        for view in pictures_around(both, 40, 200)
    ]
    mesh = baked(grey_mesh(both), views, 256)
    points, colors = points_with_colors(mesh)
    of_box = points[:, 1] < 1
    assert psnr(colors[None, of_box], waves(points[of_box])[None]) > 50
    nearest_paint = np.abs(waves(points[of_box]) - MAGENTA).max(axis=1).min()
    assert np.abs(colors - MAGENTA).max(axis=1)[of_box].min() > nearest_paint - 0.02
    assert (
        np.abs(colors - MAGENTA).max(axis=1)[~of_box] < 0.05
    ).mean() > 0.95  # all but its narrow sides, 4.8 % of its area


def with_passers_by(views: list[SurfaceView]) -> list[SurfaceView]:
    """Something in front of a third of the pictures that is not of the mesh."""
    for i in range(0, len(views), 3):
        rgb = views[i].rgb.copy()
        rgb[60:120, 70:130] = MAGENTA
        views[i] = replace(views[i], rgb=rgb)
    return views


def test_what_most_pictures_do_not_show_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    views = with_passers_by(pictures(SPHERE, 24))
    robust = agreement(baked(grey_mesh(SPHERE), views, 256))
    monkeypatch.setattr(texture_baking, "MIN_AGREEMENT", 1.0)
    assert robust > 48 > 30 > agreement(baked(grey_mesh(SPHERE), views, 256)) + 8


def test_exposure_and_white_balance_may_change_between_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = np.exp(np.random.default_rng(1).uniform(-0.35, 0.35, (24, 3))).astype(np.float32)
    factors /= np.exp(np.log(factors).mean(axis=0))
    views = [
        replace(view, rgb=(view.rgb * 0.6 * factor).clip(0, 1))
        for view, factor in zip(pictures(SPHERE, 24), factors, strict=True)
    ]

    def of_paint(mesh: Mesh) -> float:
        points, colors = points_with_colors(mesh)
        return psnr(colors[None], 0.6 * waves(points)[None])

    corrected = of_paint(baked(grey_mesh(SPHERE), views, 256))
    monkeypatch.setattr(texture_baking, "GAIN_ROUNDS", 0)
    assert corrected > 36 > of_paint(baked(grey_mesh(SPHERE), views, 256)) + 8


def test_what_a_picture_leaves_out_is_not_used() -> None:
    views = with_passers_by(pictures(SPHERE, 24))
    for i in range(0, len(views), 3):
        depth = views[i].depth.copy()
        depth[55:125, 65:135] = (0, np.inf)[i % 2]
        views[i] = replace(views[i], depth=depth)
    assert agreement(baked(grey_mesh(SPHERE), views, 256)) > 50


def test_measured_depth_tells_what_stands_before_the_mesh() -> None:
    """Something stands in front of most pictures, so that their colours agree on it; it is not of the mesh."""
    views = pictures(SPHERE, 24)
    for i, view in enumerate(views):
        rgb, measured = view.rgb.copy(), np.where(np.isfinite(view.depth), view.depth, 0)
        measured[:30] = 0  # unknown
        if i % 3:
            rgb[40:140, 50:150] = MAGENTA
            measured[40:140, 50:150] *= 0.8
        views[i] = replace(view, rgb=rgb, measured=measured)
    assert agreement(baked(grey_mesh(SPHERE), views, 256)) > 35
    without = [replace(view, measured=None) for view in views]
    assert agreement(baked(grey_mesh(SPHERE), without, 256)) < 20


def test_texels_that_no_picture_sees_have_the_colours_of_the_vertices() -> None:
    shape = replace(grey_mesh(SPHERE), colors=np.asarray(SPHERE.vertices * 0.3 + 0.5, np.float32))
    above = [view for view in pictures(SPHERE, 24) if np.linalg.inv(view.viewmat)[2, 3] > 1.5]
    points, colors = points_with_colors(baked(shape, above, 256))
    below = points[:, 2] < -0.6
    assert np.abs(colors[below] - (points[below] * 0.3 + 0.5)).max() < 0.008  # within a texel and a byte
    top = points[:, 2] > 0.6
    assert psnr(colors[None, top], waves(points[top])[None]) > 50
    everything, colors = points_with_colors(baked(shape, [], 64))
    assert np.abs(colors - (everything * 0.3 + 0.5)).max() < 0.03  # four times larger texels


def test_the_sharpest_picture_is_used() -> None:
    """Of a near picture with stripes, and far ones in which these are a blur."""
    (near,) = pictures_around(BOX, 1, 400)
    far = pictures_around(BOX, 1, 40, 9.0) * 3

    def stripes(points: np.ndarray) -> np.ndarray:
        return np.repeat(0.5 + 0.3 * np.sin(60 * points[..., 1:2]), 3, axis=-1)

    views = [painted(near, stripes), *(painted(view, lambda points: np.full_like(points, 0.5)) for view in far)]
    mesh = baked(grey_mesh(BOX), views, 512)
    points, colors = points_with_colors(mesh)
    front = (points[:, 0] > 0.49) & (np.abs(points[:, 1:]) < [0.6, 0.3]).all(axis=1)
    assert np.abs(colors[front] - stripes(points[front])).mean() < 0.01


@pytest.mark.parametrize(
    ("mesh", "texture_size", "message"),
    [
        (grey_mesh(BOX), 63, "63 pixels cannot be made: choose from 64 to 8192"),
        (grey_mesh(BOX), 8193, "cannot be made"),
        (replace(grey_mesh(BOX), faces=np.zeros((0, 3), np.int64)), 256, "no faces"),
        (replace(grey_mesh(BOX), vertices=np.full((8, 3), np.nan)), 256, "not finite"),
        (replace(grey_mesh(BOX), faces=np.array([[0, 1, 8]])), 256, "damaged"),
    ],
)
def test_bad_input_is_one_line(mesh: Mesh, texture_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        baked(mesh, [], texture_size)
    assert "\n" not in str(error.value)
