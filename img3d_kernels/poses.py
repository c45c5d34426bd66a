# SPDX-License-Identifier: Apache-2.0
"""Camera poses: conversion to the matrices that `rasterization` takes, and what several cameras look at."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def world_to_cameras(camera_to_worlds: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C 4 4"]:
    """Inverts camera poses; the camera's axes stay as they are. Differentiable."""
    rotations = camera_to_worlds[:, :, :3].transpose(1, 2)
    inverse = torch.cat([rotations, -rotations @ camera_to_worlds[:, :, 3:]], dim=2)
    last_row = camera_to_worlds.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(inverse), 1, 4)
    return torch.cat([inverse, last_row], dim=1)


def viewmats(camera_to_worlds: Float[Tensor, "C 3 4"]) -> Float[Tensor, "C 4 4"]:
    """World-to-camera matrices with OpenCV axes (x right, y down, z forward) of camera-to-world poses with OpenGL axes
    (x right, y up, z backward), which Nerfstudio uses. Differentiable."""
    return camera_to_worlds.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None] * world_to_cameras(camera_to_worlds)


def focal_length(fov: float, size: int) -> float:
    """Focal length in pixels of a picture `size` pixels wide that spans `fov` degrees."""
    return size / 2 / math.tan(math.radians(fov) / 2)


def intrinsics(fov: float, size: int) -> Float[Tensor, "3 3"]:
    """Pinhole intrinsics in pixels of a square image with `fov` degrees, the principal point at its centre."""
    focal = focal_length(fov, size)
    return torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])


def point_of_attention(origins: Float[Tensor, "C 3"], forward: Float[Tensor, "C 3"]) -> Float[Tensor, "3"]:
    """The point with the smallest sum of squared distances to all optical axes.

    If it is not unique (parallel axes), the one nearest to the mean of the camera centres.

    Args:
        origins: Camera centres.
        forward: Unit viewing directions.
    """
    across = torch.eye(3, dtype=origins.dtype) - forward[:, :, None] * forward[:, None, :]  # [C, 3, 3]
    center = origins.mean(0)
    normal = across.sum(0)
    rhs = (across @ (origins - center)[..., None]).sum(0)
    return center + (torch.linalg.pinv(normal, rtol=1e-4, hermitian=True) @ rhs)[:, 0]
