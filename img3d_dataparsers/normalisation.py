# SPDX-License-Identifier: Apache-2.0
"""Normalising a capture's world: cameras in [-1, 1]^3 around the origin, z up."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from scipy.spatial.transform import Rotation

from img3d_dataparsers.posed_photos import FloatArray, OrientationMethod

CenterMethod = Literal["poses", "focus", "none"]


def normalise(
    camera_to_worlds: FloatArray,
    orientation_method: OrientationMethod,
    center_method: CenterMethod,
    auto_scale_poses: bool,
    scale_factor: float,
    up: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray, float]:
    """Nerfstudio's normalisation of poses, in double precision.

    Args:
        camera_to_worlds: `[N, 4, 4]`.
        orientation_method: As in Nerfstudio's data parsers.
        center_method: As in Nerfstudio's data parsers.
        auto_scale_poses: Whether to scale the largest camera coordinate to 1.
        scale_factor: A further scale.
        up: `[3]`, for the orientation method "up": the direction that becomes z, instead of the mean of the cameras' y.

    Returns:
        Normalised camera_to_worlds `[N, 3, 4]`, and the transform `[3, 4]` and scale that produce them:
        `R' = T[:, :3] R` and `t' = scale * (T[:, :3] t + T[:, 3])`.
    """
    # Nerfstudio computes in float32, too imprecise for georeferenced captures (coordinates in the millions).
    shift = np.eye(4)
    if center_method != "none":
        shift[:3, 3] = -camera_to_worlds[:, :3, 3].mean(axis=0)
    if up is not None and orientation_method == "up":
        turn = np.eye(4)
        turn[:3, :3] = Rotation.align_vectors([[0.0, 0.0, 1.0]], up[None])[0].as_matrix()
        shift, orientation_method = turn @ shift, "none"
    _, oriented = auto_orient_and_center_poses(
        torch.from_numpy(shift @ camera_to_worlds).float(), method=orientation_method, center_method=center_method
    )
    # Its rotation is orthonormalised: rounding would move what is millions of metres away by half a metre.
    u, _, vh = np.linalg.svd(oriented[:, :3].double().numpy())
    transform = np.concatenate([u @ vh, oriented[:, 3:].double().numpy()], axis=1) @ shift
    poses = transform @ camera_to_worlds
    extent = np.abs(poses[:, :, 3]).max()
    scale = scale_factor / float(extent) if auto_scale_poses and extent > 0 else scale_factor
    poses[:, :, 3] *= scale
    return poses, transform, scale
