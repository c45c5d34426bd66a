# SPDX-License-Identifier: Apache-2.0
"""Changing the resolution of cameras consistently with resizing whole photos to the same size."""

from __future__ import annotations

from dataclasses import replace

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor


def downscaled(cameras: Cameras, factors: Tensor) -> Cameras:
    """The cameras at 1/factor of their resolution.

    Cameras.rescale_output_resolution scales the intrinsics by the factor and rounds the size separately, which is off
    by up to a pixel at the right and bottom edges. Here they are scaled by the ratio of the rounded sizes.

    Args:
        cameras: `[N]`.
        factors: `[N, 1]`, 2 for half the resolution.

    Returns:
        New cameras `[N]`; the arguments are not changed.
    """
    width = torch.round(cameras.width / factors).clamp(min=1).to(torch.int64)
    height = torch.round(cameras.height / factors).clamp(min=1).to(torch.int64)
    scale_x, scale_y = width / cameras.width, height / cameras.height
    return replace(
        cameras,
        fx=cameras.fx * scale_x,
        fy=cameras.fy * scale_y,
        cx=cameras.cx * scale_x,
        cy=cameras.cy * scale_y,
        width=width,
        height=height,
    )


def at_most(cameras: Cameras, max_size: int) -> Cameras:
    """Downscales those cameras `[N]` that are larger to `max_size` pixels along their longest side."""
    longest = torch.maximum(cameras.width, cameras.height)
    return downscaled(cameras, (longest / max_size).clamp(min=1))
