# SPDX-License-Identifier: Apache-2.0
"""Flat Gaussians on the surface of a mesh, for programs and pages that only draw splats."""

from __future__ import annotations

import numpy as np

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import area_normals
from img3d_assets.mesh_sampling import points_on_mesh
from img3d_assets.quantised import logits
from img3d_kernels.spherical_harmonics import rgb_to_sh

NUM_SPLATS = 200_000
ALPHA = 0.95
WIDTH = 1.0
"""Standard deviation of a disc, in mean distances between neighbours."""
FLATNESS = 0.05
"""Thickness of a disc, relative to its width."""


def splats_on_mesh(mesh: Mesh, count: int = NUM_SPLATS) -> Gaussians:
    """Places discs in the surface, evenly distributed, with its colours.

    Raises:
        InputError: The mesh has no area.
    """
    cloud = points_on_mesh(mesh, count)
    width = WIDTH * np.sqrt(np.linalg.norm(area_normals(mesh), axis=1).sum() / count)
    # The shortest rotation from z to the normal; for -z, half a turn about x.
    x, y, z = cloud.normals.astype(np.float64).T
    quats = np.stack([1 + z, -y, x, np.zeros_like(x)], axis=1)
    quats[z < -1 + 1e-9] = [0, 1, 0, 0]
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return Gaussians(
        cloud.points.astype(np.float32),
        quats.astype(np.float32),
        np.tile(np.log(width * np.array([1, 1, FLATNESS])), (count, 1)).astype(np.float32),
        np.full(count, logits(np.array([ALPHA]))[0], np.float32),
        rgb_to_sh(cloud.colors).astype(np.float32),
        np.zeros((count, 0, 3), np.float32),
    )
