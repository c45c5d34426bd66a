# SPDX-License-Identifier: Apache-2.0
"""Gaussians in the frame of the original capture, which training normalises: its axes, its origin, its units."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from img3d_exporters.splats import SH_COEFFICIENTS, Splats
from img3d_methods.ray_compositing import spherical_harmonics

NUM_DIRECTIONS = 400
"""Enough to tell the 16 spherical harmonics of degree 3 apart without loss of digits."""


def in_original_frame(
    splats: Splats, dataparser_transform: Float[np.ndarray, "3 4"], dataparser_scale: float
) -> Splats:
    """The splats as the photos' own poses see them.

    Args:
        splats: N Gaussians in the normalised frame.
        dataparser_transform: Nerfstudio's, from the original frame; its left part is orthogonal.
        dataparser_scale: Nerfstudio's, applied after the transform.
    """
    rotation, translation = dataparser_transform[:, :3].astype(np.float64), dataparser_transform[:, 3]
    back = rotation.T
    # A Gaussian is its own mirror image through its centre: of a reflection the proper rotation does as well.
    proper = Rotation.from_matrix(back * np.sign(np.linalg.det(back)))
    quats = (proper * Rotation.from_quat(splats.quats, scalar_first=True)).as_quat(scalar_first=True)
    degree = next(d for d, count in SH_COEFFICIENTS.items() if count == splats.sh_rest.shape[1])
    return Splats(
        means=((splats.means / dataparser_scale - translation) @ rotation).astype(np.float32),
        quats=quats.astype(np.float32),
        log_scales=splats.log_scales - np.float32(np.log(dataparser_scale)),
        opacities=splats.opacities,
        sh_dc=splats.sh_dc,
        sh_rest=np.einsum("ij,njc->nic", rotated_harmonics(back, degree), splats.sh_rest).astype(np.float32),
    )


def rotated_harmonics(rotation: Float[np.ndarray, "3 3"], degree: int) -> Float[np.ndarray, "K K"]:
    """What takes coefficients beyond the constant one of a function on the sphere to those of the rotated function.

    The harmonics of each degree span a space that rotations (and reflections) map onto itself, so values in a few
    hundred directions determine the matrix.
    """
    directions = np.random.default_rng(0).normal(size=(NUM_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def harmonics(towards: Float[np.ndarray, "S 3"]) -> Float[np.ndarray, "S K"]:
        return spherical_harmonics(torch.from_numpy(towards), degree).numpy()[:, 1:]

    # The rotated function has in direction d the value that the function has in rotation^T d.
    return np.linalg.lstsq(harmonics(directions), harmonics(directions @ rotation), rcond=None)[0]
