# SPDX-License-Identifier: Apache-2.0
"""Meshes of generated fields: cleaned, decimated, in levels of detail, in the field's own colours."""

from __future__ import annotations

import numpy as np
import pytest
from triplanes import ball_field

from img3d_assets.meshing.cleaning import is_watertight
from img3d_base.errors import InputError
from img3d_exporters.meshes.mesh_of_run import MeshOptions, levels_of_field


def test_levels_of_detail_have_the_shape_and_the_colours() -> None:
    options = MeshOptions(resolution=32, faces=800, lods=2, texture_size=128)
    fine, coarse = levels_of_field(ball_field(), True, options)
    for level, faces in ((fine, 800), (coarse, 200)):
        assert len(level.faces) <= faces and level.up == "z" and level.texture is not None
        np.testing.assert_allclose(np.linalg.norm(level.vertices, axis=1), 0.5, atol=0.03)
        red = 1 / (1 + np.exp(-6 * level.vertices[:, 0]))
        assert np.abs(level.colors[:, 0] - red).mean() < 0.02
    assert fine.texture is not None and fine.texture.shape[:2] == (128, 128)


def test_it_can_be_watertight_and_without_a_texture() -> None:
    (mesh,) = levels_of_field(ball_field(), False, MeshOptions(resolution=24, watertight=True))
    assert mesh.texture is None and is_watertight(mesh.vertices, mesh.faces)


def test_a_crop_cuts() -> None:
    options = MeshOptions(resolution=24, crop_min=(-2, -2, 0), crop_max=(2, 2, 2))
    (mesh,) = levels_of_field(ball_field(), False, options)
    assert -0.1 < mesh.vertices[:, 2].min() < 0.1
    with pytest.raises(InputError, match="no surface between"):
        next(levels_of_field(ball_field(), False, MeshOptions(resolution=24, crop_min=(0.9, 0.9, 0.9))))


def test_resolutions_beyond_memory_are_refused() -> None:
    with pytest.raises(InputError, match="can have 512"):
        next(levels_of_field(ball_field(), False, MeshOptions(resolution=2000)))
