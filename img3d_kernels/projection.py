# SPDX-License-Identifier: Apache-2.0
"""Projection of points into the picture of a pinhole camera."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MIN_DEPTH = 1e-9
"""Points nearer to the camera's plane than this count as behind it."""


def project(
    points: Float[Tensor, "P 3"], K: Float[Tensor, "3 3"], viewmat: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "P 2"], Float[Tensor, "P 3"]]:
    """Projects points, in their own precision.

    Args:
        points: World coordinates.
        K: Intrinsics in pixels; pixel centres at +0.5.
        viewmat: World to camera, OpenCV axes (x right, y down, z forward).

    Returns:
        x and y in pixels, which mean nothing for points behind the camera; and the points in camera coordinates.
    """
    viewmat = viewmat.to(points)
    in_camera = points @ viewmat[:3, :3].T + viewmat[:3, 3]
    depths = in_camera[:, 2:]
    homogeneous = in_camera @ K.to(points).T
    return homogeneous[:, :2] / torch.where(depths > MIN_DEPTH, depths, 1.0), in_camera


def in_picture(
    points: Float[Tensor, "P 3"], K: Float[Tensor, "3 3"], viewmat: Float[Tensor, "4 4"], width: int, height: int
) -> tuple[Bool[Tensor, "P"], Float[Tensor, "P 2"], Float[Tensor, "P 3"]]:
    """Which points lie in front of a camera and inside its picture, occluded or not; and what `project` returns.

    Args:
        points: World coordinates.
        K: Intrinsics in pixels; pixel centres at +0.5.
        viewmat: World to camera, OpenCV axes (x right, y down, z forward).
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """
    pixels, in_camera = project(points, K, viewmat)
    x, y = pixels.unbind(dim=1)  # compared one by one: `all` over two columns takes several times as long
    inside = (in_camera[:, 2] > MIN_DEPTH) & (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return inside, pixels, in_camera
