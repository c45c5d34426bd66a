# SPDX-License-Identifier: Apache-2.0
"""Geometric consistency: how many other views confirm a depth (Schönberger et al. 2016, section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from img3d_kernels.projection import in_picture, project
from img3d_kernels.stereo.views import StereoView, pixel_centers, rays

MAX_REPROJECTION_ERROR = 2.0
"""Maximum distance in pixels between a pixel and its projection into the source and back."""
MAX_RELATIVE_DIFFERENCE = 0.01
"""Maximum relative difference between the two depths."""


def count_agreeing(
    view: StereoView,
    depth: Float32[Tensor, "H W"],
    sources: Sequence[StereoView],
    source_depths: Sequence[Float32[Tensor, "_ _"]],
    max_relative_difference: float = MAX_RELATIVE_DIFFERENCE,
) -> Int[Tensor, "H W"]:
    """Counts, for each pixel, the sources whose depth confirms its point.

    Args:
        view: The view.
        depth: Its depth map, 0 where unknown; the count is 0 there.
        sources: The other views.
        source_depths: Their depth maps, 0 where unknown.
        max_relative_difference: Maximum relative difference between the two depths, measured in the source.
    """
    height, width = view.size
    camera_to_world = torch.linalg.inv(view.viewmat.double())
    points = (rays(view.K, height, width) * depth[..., None]).reshape(-1, 3)
    pixels = torch.stack(pixel_centers(height, width), dim=-1).reshape(-1, 2)
    agreeing = torch.zeros(height * width, dtype=torch.int64)
    for source, source_depth in zip(sources, source_depths, strict=True):
        there = (source.viewmat.double() @ camera_to_world).float()
        back = torch.linalg.inv(there.double()).float()
        source_height, source_width = source.size
        inside, projected, seen = in_picture(points, source.K, there, source_width, source_height)
        inside &= depth.flatten() > 0
        column, row = torch.where(inside[:, None], projected, 0).long().unbind(dim=1)
        found = source_depth[row, column]
        z = torch.where(inside, seen[:, 2], 1.0)
        close = inside & (found > 0) & ((found - z).abs() <= max_relative_difference * z)
        # The source's own point at this pixel, projected back into the view.
        returned, _ = project(seen * (found / z)[:, None], view.K, back)
        agreeing += close & ((returned - pixels).norm(dim=1) <= MAX_REPROJECTION_ERROR)
    return agreeing.reshape(height, width)
