# SPDX-License-Identifier: Apache-2.0
"""Which depths several pictures agree on: geometric consistency (Schönberger et al. 2016, section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int
from torch import Tensor

from img3d_kernels.stereo.views import StereoView, rays

MAX_REPROJECTION_ERROR = 2.0
"""Pixels from where a point is seen to where the other picture's depth sends it back."""
MAX_RELATIVE_DIFFERENCE = 0.01
"""Between both depths."""


def count_agreeing(
    view: StereoView,
    depth: Float32[Tensor, "H W"],
    sources: Sequence[StereoView],
    source_depths: Sequence[Float32[Tensor, "_ _"]],
    max_relative_difference: float = MAX_RELATIVE_DIFFERENCE,
) -> Int[Tensor, "H W"]:
    """In how many sources each pixel's point has the same place.

    Args:
        view: The view.
        depth: Its depth, 0 where unknown: nothing agrees there.
        sources: Others.
        source_depths: Theirs, 0 where unknown.
        max_relative_difference: Between both depths, seen from the source.
    """
    height, width = view.size
    camera_to_world = torch.linalg.inv(view.viewmat.double())
    points = (rays(view.K, height, width) * depth[..., None]).reshape(-1, 3)
    pixels = torch.stack(torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")[::-1], -1)
    pixels = pixels.reshape(-1, 2)
    agreeing = torch.zeros(height * width, dtype=torch.int64)
    for source, source_depth in zip(sources, source_depths, strict=True):
        there = (source.viewmat.double() @ camera_to_world).float()
        back = torch.linalg.inv(there.double()).float()
        seen = points @ there[:3, :3].T + there[:3, 3]
        ahead = (seen[:, 2] > 1e-9) & (depth.flatten() > 0)
        projected = seen @ source.K.float().T
        projected = projected[:, :2] / torch.where(ahead, seen[:, 2], 1.0)[:, None]
        source_height, source_width = source.size
        limits = torch.tensor([source_width, source_height])
        inside = ahead & ((projected >= 0) & (projected < limits)).all(dim=1)
        column, row = torch.where(inside[:, None], projected, 0).long().unbind(dim=1)
        found = source_depth[row, column]
        close = inside & (found > 0) & ((found - seen[:, 2]).abs() <= max_relative_difference * seen[:, 2])
        # What the source has at this very place, seen from the view again.
        returned = seen * (found / torch.where(ahead, seen[:, 2], 1.0))[:, None] @ back[:3, :3].T + back[:3, 3]
        returned = returned @ view.K.float().T
        returned = returned[:, :2] / returned[:, 2:].clamp_min(1e-9)
        agreeing += close & ((returned - pixels).norm(dim=1) <= MAX_REPROJECTION_ERROR)
    return agreeing.reshape(height, width)
