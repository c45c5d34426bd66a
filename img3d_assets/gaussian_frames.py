# SPDX-License-Identifier: Apache-2.0
"""Transforming Gaussians to the original capture's frame, and to the axes that file formats prescribe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from img3d_assets.gaussians import Gaussians
from img3d_kernels.spherical_harmonics import sh_basis

NUM_DIRECTIONS = 400
"""Enough for a well-conditioned fit of the 16 spherical harmonics up to degree 3."""


def in_original_frame(
    splats: Gaussians, dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float
) -> Gaussians:
    """Transforms Gaussians from Nerfstudio's normalised frame to that of the photos' original poses.

    Args:
        splats: N Gaussians in the normalised frame.
        dataparser_transform: Nerfstudio's, from the original frame; its 3x3 part is orthogonal.
        dataparser_scale: Nerfstudio's, applied after the transform.
    """
    means = splats.means + np.asarray(splats.origin)
    turned = rotated(splats, dataparser_transform[:, :3].T)
    turned.log_scales = splats.log_scales - np.float32(np.log(dataparser_scale))
    return turned.at(points_in_original_frame(means, dataparser_transform, dataparser_scale))


def points_in_original_frame(
    points: Float[np.ndarray, "N 3"], dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float
) -> Float[np.ndarray, "N 3"]:
    """Transforms points as `in_original_frame` does, in float64."""
    transform = dataparser_transform.astype(np.float64)
    return (points / dataparser_scale - transform[:, 3]) @ transform[:, :3]


def rotated(splats: Gaussians, rotation: Float[np.ndarray, "3 3"]) -> Gaussians:
    """Rotates (or mirrors) Gaussians about the origin, their view-dependent colours included."""
    rotation = rotation.astype(np.float64)
    # A Gaussian is symmetric about its centre, so a reflection acts on its shape as the proper rotation -R does.
    proper = Rotation.from_matrix(rotation * np.sign(np.linalg.det(rotation)))
    quats = splats.quats.astype(np.float64)
    turned = np.isfinite(quats).all(axis=1) & (
        np.abs(quats).max(axis=1, initial=0) > 0
    )  # damaged quaternions stay as they are
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
    """Matrix that maps coefficients (without degree 0) of a function on the sphere to those of the rotated function.

    The harmonics of each degree span a space that rotations (and reflections) map onto itself, so values in a few
    hundred directions determine the matrix.
    """
    directions = np.random.default_rng(0).normal(size=(NUM_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def harmonics(towards: Float[np.ndarray, "S 3"]) -> Float[np.ndarray, "S K"]:
        return sh_basis(degree, torch.from_numpy(towards)).numpy()[:, 1:]

    # The rotated function at direction d equals the original function at rotation^T d.
    return np.linalg.lstsq(harmonics(directions), harmonics(directions @ rotation), rcond=None)[0]
