# SPDX-License-Identifier: Apache-2.0
"""Splats on a mesh: flat discs in its surface, turned to its normals, with its colours and area."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError
from img3d_exporters.page.mesh_splats import ALPHA, FLATNESS, splats_on_mesh
from img3d_kernels.spherical_harmonics import SH_C0

BOX = trimesh.creation.box((1.0, 2.0, 3.0))


def box() -> Mesh:
    """Green where x > 0, red elsewhere; its faces look along all axes, also straight down."""
    colors = np.where(BOX.vertices[:, :1] > 0, [0.0, 1, 0], [1.0, 0, 0]).astype(np.float32)
    return Mesh(np.asarray(BOX.vertices), np.asarray(BOX.faces), colors)


def axes(quats: np.ndarray) -> np.ndarray:
    """The third column `[N, 3]` of each rotation (w, x, y, z): where the disc's normal points."""
    w, x, y, z = quats.T
    return np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)], axis=1)


def test_discs_lie_in_the_surface_and_are_turned_to_it() -> None:
    splats = splats_on_mesh(box(), 3000)
    on_faces = np.isclose(np.abs(splats.means), np.array([0.5, 1.0, 1.5]), atol=1e-5)
    assert len(splats) == 3000 and on_faces.any(axis=1).all()
    outward = np.where(on_faces, np.sign(splats.means), 0)
    clear = on_faces.sum(axis=1) == 1  # not on an edge
    np.testing.assert_allclose(axes(splats.quats)[clear], outward[clear], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(splats.quats, axis=1), 1, atol=1e-6)
    assert (outward[clear] == [0, 0, -1]).all(axis=1).any(), "none looks straight down"


@pytest.mark.parametrize("count", [500, 2000])
def test_the_discs_are_as_wide_as_the_distance_between_them(count: int) -> None:
    splats = splats_on_mesh(box(), count)
    spacing = np.sqrt(BOX.area / count)
    np.testing.assert_allclose(
        np.exp(splats.log_scales), np.tile([spacing, spacing, FLATNESS * spacing], (count, 1)), 1e-5
    )


def test_they_have_the_colours_of_the_surface_and_are_nearly_opaque() -> None:
    splats = splats_on_mesh(box(), 3000)
    rgb = 0.5 + SH_C0 * splats.sh_dc
    at_end = np.isclose(np.abs(splats.means[:, 0]), 0.5, atol=1e-5)
    np.testing.assert_allclose(rgb[at_end & (splats.means[:, 0] > 0)].mean(axis=0), [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(rgb[at_end & (splats.means[:, 0] < 0)].mean(axis=0), [1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(splats.alphas(), ALPHA, atol=1e-6)
    assert splats.sh_degree == 0


def test_a_mesh_without_area_is_refused() -> None:
    with pytest.raises(InputError):
        splats_on_mesh(replace(box(), vertices=np.zeros_like(BOX.vertices)), 10)
