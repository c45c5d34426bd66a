# SPDX-License-Identifier: Apache-2.0
"""Gaussians in other axes and units: those of the original capture, and those that a file format prescribes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from img3d_assets.gaussians import Gaussians
from img3d_kernels.spherical_harmonics import sh_basis

NUM_DIRECTIONS = 400
"""Enough to tell the 16 spherical harmonics of degree 3 apart without loss of digits."""


def in_original_frame(
    splats: Gaussians, dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float
) -> Gaussians:
    """The splats as the photos' own poses see them.

    Args:
        splats: N Gaussians in the normalised frame.
        dataparser_transform: Nerfstudio's, from the original frame; its left part is orthogonal.
        dataparser_scale: Nerfstudio's, applied after the transform.
    """
    means = splats.means + np.asarray(splats.origin)
    turned = rotated(splats, dataparser_transform[:, :3].T)
    turned.log_scales = splats.log_scales - np.float32(np.log(dataparser_scale))
    return turned.at(points_in_original_frame(means, dataparser_transform, dataparser_scale))


def points_in_original_frame(
    points: Float[np.ndarray, "N 3"], dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float
) -> Float[np.ndarray, "N 3"]:
    """As `in_original_frame`, of points; float64."""
    transform = dataparser_transform.astype(np.float64)
    return (points / dataparser_scale - transform[:, 3]) @ transform[:, :3]


def rotated(splats: Gaussians, rotation: Float[np.ndarray, "3 3"]) -> Gaussians:
    """The splats turned (or mirrored) about the origin, with the colours that they show to each side."""
    rotation = rotation.astype(np.float64)
    # A Gaussian is its own mirror image through its centre: of a reflection the proper rotation does as well.
    proper = Rotation.from_matrix(rotation * np.sign(np.linalg.det(rotation)))
    quats = splats.quats.astype(np.float64)
    turned = np.isfinite(quats).all(axis=1) & (np.abs(quats).max(axis=1, initial=0) > 0)  # damaged ones stay so
    quats[turned] = (proper * Rotation.from_quat(quats[turned], scalar_first=True)).as_quat(scalar_first=True)
    x, y, z = rotation @ splats.origin
    harmonics = rotated_harmonics(rotation, splats.sh_degree).astype(np.float32)
    return replace(
        splats,
        means=(splats.means @ rotation.T).astype(np.float32),
        quats=quats.astype(np.float32),
        sh_rest=(harmonics @ splats.sh_rest).astype(np.float32, copy=False),
        origin=(float(x), float(y), float(z)),
        up=None,
    )


def rotated_harmonics(rotation: Float[np.ndarray, "3 3"], degree: int) -> Float[np.ndarray, "K K"]:
    """What takes coefficients beyond the constant one of a function on the sphere to those of the rotated function.

    The harmonics of each degree span a space that rotations (and reflections) map onto itself, so values in a few
    hundred directions determine the matrix.
    """
    directions = np.random.default_rng(0).normal(size=(NUM_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def harmonics(towards: Float[np.ndarray, "S 3"]) -> Float[np.ndarray, "S K"]:
        return sh_basis(degree, torch.from_numpy(towards)).numpy()[:, 1:]

    # The rotated function has in direction d the value that the function has in rotation^T d.
    return np.linalg.lstsq(harmonics(directions), harmonics(directions @ rotation), rcond=None)[0]
