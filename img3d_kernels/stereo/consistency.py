# SPDX-License-Identifier: Apache-2.0
"""Removes wrong depths: geometric consistency, which is how many other views confirm a depth (Schönberger et al. 2016,
section 4.4), speckles, small pieces of surface apart from all others, where depths agree by chance, and rims, where a
surface seems to be wider than it is."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from torch import Tensor

from img3d_kernels.projection import in_picture, project
from img3d_kernels.stereo.views import StereoView, pixel_centers, rays

MAX_REPROJECTION_ERROR = 2.0
"""Maximum distance in pixels between a pixel and its projection into the source and back."""
MAX_RELATIVE_DIFFERENCE = 0.01
"""Maximum relative difference between the two depths."""

STEP = 8.0
"""Neighbouring pixels whose depths differ by more than this many times the size of a pixel on the surface lie on
different pieces; flat surfaces reach it at 83 degrees."""
MIN_PIECE = 0.0006
"""Minimum size of a piece of surface, as a share of the picture."""
LEVELS = 32_000
"""Number of steps into which the logarithm of depth is divided."""
RIM = 9
"""Width in pixels of the square around a pixel that tells whether it is at the rim of a surface."""
MIN_KNOWN_AROUND = 0.6
"""Share of this square whose depth is known from which on it is not."""


def count_agreeing(
    view: StereoView,
    depth: Float32[Tensor, "H W"],
    sources: Sequence[StereoView],
    source_depths: Sequence[Float32[Tensor, "_ _"]],
    max_relative_differences: Sequence[float] = (MAX_RELATIVE_DIFFERENCE,),
) -> Int[Tensor, "D H W"]:
    """Counts, for each pixel, the sources whose depth confirms its point, for each of D tolerances.

    Args:
        view: The view.
        depth: Its depth map, 0 where unknown; the count is 0 there.
        sources: The other views.
        source_depths: Their depth maps, 0 where unknown.
        max_relative_differences: Maximum relative differences between the two depths, measured in the source.
    """
    height, width = view.size
    camera_to_world = torch.linalg.inv(view.viewmat.double())
    points = (rays(view.K, height, width) * depth[..., None]).reshape(-1, 3)
    pixels = torch.stack(pixel_centers(height, width), dim=-1).reshape(-1, 2)
    agreeing = torch.zeros(len(max_relative_differences), height * width, dtype=torch.int64)
    for source, source_depth in zip(sources, source_depths, strict=True):
        there = (source.viewmat.double() @ camera_to_world).float()
        back = torch.linalg.inv(there.double()).float()
        source_height, source_width = source.size
        inside, projected, seen = in_picture(points, source.K, there, source_width, source_height)
        inside &= depth.flatten() > 0
        column, row = torch.where(inside[:, None], projected, 0).long().unbind(dim=1)
        found = source_depth[row, column]
        z = torch.where(inside, seen[:, 2], 1.0)
        # The source's own point at this pixel, projected back into the view.
        returned, _ = project(seen * (found / z)[:, None], view.K, back)
        there_again = inside & (found > 0) & ((returned - pixels).norm(dim=1) <= MAX_REPROJECTION_ERROR)
        for count, tolerance in zip(agreeing, max_relative_differences, strict=True):
            count += there_again & ((found - z).abs() <= tolerance * z)
    return agreeing.reshape(-1, height, width)


def in_large_pieces(
    view: StereoView, depth: Float32[Tensor, "H W"], min_piece: float = MIN_PIECE
) -> Bool[Tensor, "H W"]:
    """Which pixels lie on connected pieces of surface that are not tiny.

    Args:
        view: The view.
        depth: Its depth map, 0 where unknown.
        min_piece: Minimum size of a piece, as a share of the picture.
    """
    known = depth.numpy() > 0
    if not known.any():
        return torch.from_numpy(known)
    logarithm = np.log(np.where(known, depth.numpy(), 1.0))
    low, high = logarithm[known].min(), logarithm[known].max()
    scale = (LEVELS - 1) / max(float(high - low), 1e-3)
    steps = np.where(known, (logarithm - low) * scale + 1, 0).astype(np.int16)
    focal = float((view.K[0, 0] * view.K[1, 1]).sqrt())
    cv2.filterSpeckles(steps, 0, round(min_piece * depth.numel()), min(STEP / focal * scale, LEVELS))
    return torch.from_numpy(steps > 0)


def without_rims(known: Bool[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """Which of the pixels of known depth are not at the rim of a surface.

    There patches show both sides of an outline, and the nearer surface seems to reach beyond it, for all views alike.
    Pieces so small that they have nothing but rims are kept.
    """
    square = np.ones((RIM, RIM), np.uint8)
    inner = known.numpy() & (cv2.blur(known.numpy().astype(np.float32), square.shape) >= MIN_KNOWN_AROUND)
    beside = cv2.dilate(inner.astype(np.uint8), square) > 0
    return known & torch.from_numpy(inner | ~beside)
