# SPDX-License-Identifier: Apache-2.0
"""Vertices have the colours of the pictures that show them in front, and not those of what is before or behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from surface_pictures import pictures_around

from img3d_assets.mesh import Mesh
from img3d_assets.meshing.surface_view import SurfaceView
from img3d_assets.meshing.vertex_colors import colored

BALL = trimesh.creation.icosphere(3)
GREY = Mesh(np.asarray(BALL.vertices), np.asarray(BALL.faces), np.full((len(BALL.vertices), 3), 0.5, np.float32))


def in_color(view: SurfaceView, color: tuple[float, float, float]) -> SurfaceView:
    return replace(view, rgb=np.broadcast_to(np.float32(color), view.rgb.shape))


def test_each_side_has_the_colour_it_is_seen_in() -> None:
    first, *_, last = pictures_around(BALL, 24)  # from above and from below
    colors = colored(GREY, [in_color(first, (1, 0, 0)), in_color(last, (0, 0, 1))], 0.05).colors
    np.testing.assert_allclose(colors[BALL.vertices[:, 2] > 0.4], [[1, 0, 0]] * (BALL.vertices[:, 2] > 0.4).sum())
    np.testing.assert_allclose(colors[BALL.vertices[:, 2] < -0.4], [[0, 0, 1]] * (BALL.vertices[:, 2] < -0.4).sum())


def test_what_no_picture_shows_has_the_nearest_colour_or_stays() -> None:
    first, *_ = pictures_around(BALL, 24)
    np.testing.assert_allclose(colored(GREY, [in_color(first, (0, 1, 0))], 0.05).colors.mean(axis=0), [0, 1, 0])
    before_it = replace(first, depth=np.where(np.isinf(first.depth), first.depth, first.depth / 2))
    assert colored(GREY, [in_color(before_it, (0, 1, 0))], 0.05) is GREY
    assert colored(GREY, [], 0.05) is GREY
