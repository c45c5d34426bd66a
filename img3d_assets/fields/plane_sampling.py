# SPDX-License-Identifier: Apache-2.0
"""Features of points in three planes (Chan et al. 2022, arXiv 2112.07945): those found where a point is projected onto
each plane, one after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag, grid_sample

Axes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""For each plane, the axes of space along its columns and along its rows."""


def features_at(
    rows: Float[Tensor, "T C"], size: tuple[int, int], axes: Axes, points: Float[Tensor, "N 3"]
) -> Float[Tensor, "N F"]:
    """The planes' features at points, bilinear; 0 outside of the planes. F is 3 C.

    Args:
        rows: The texels of the three planes, row by row; rows and columns from the lowest coordinate on.
        size: Height and width of a plane.
        axes: The planes' axes.
        points: In [-1, 1]^3, where the planes are.
    """
    height, width = size
    columns, lines = (points[:, [pair[which] for pair in axes]] for which in (0, 1))
    left, of_right = _texel(columns, width)
    top, of_bottom = _texel(lines, height)
    first = torch.arange(3, device=points.device) * (height * width)
    indices, weights = [], []
    for row, row_weight in ((top, 1 - of_bottom), (top + 1, of_bottom)):
        for column, column_weight in ((left, 1 - of_right), (left + 1, of_right)):
            exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            indices.append(first + row.clamp(0, height - 1) * width + column.clamp(0, width - 1))
            weights.append(torch.where(exists, row_weight * column_weight, 0))
    index, weight = (torch.stack(parts, dim=-1).view(-1, 4) for parts in (indices, weights))
    found = embedding_bag(index, rows, mode="sum", per_sample_weights=weight)
    return found.view(len(points), -1)


def projections_of_grid(
    planes: Float[Tensor, "3 C H W"], axes: Axes, side: Float[Tensor, "N"]
) -> list[Float[Tensor, "X Y Z C"]]:
    """The features of all points of a grid, by plane. Each has size 1 along the axis that its plane does not have, so
    that what is linear in the features costs N² evaluations instead of N³.

    Args:
        planes: Features, rows from the lowest coordinate on.
        axes: The planes' axes.
        side: The grid's coordinates, the same along every axis.
    """
    lines, columns = torch.meshgrid(side, side, indexing="ij")
    at = torch.stack([columns, lines], dim=-1)[None].expand(3, -1, -1, -1)
    found = grid_sample(planes, at, align_corners=False).permute(0, 2, 3, 1)  # row, column, feature
    parts = []
    for part, (of_columns, of_rows) in zip(found, axes, strict=True):
        ascending = part if of_rows < of_columns else part.transpose(0, 1)
        parts.append(ascending.unsqueeze(3 - of_columns - of_rows))
    return parts


def _texel(positions: Float[Tensor, "N 3"], size: int) -> tuple[Tensor, Tensor]:
    """For positions in [-1, 1] along planes of `size` texels: the index of the texel before, and the weight of the
    one after."""
    texels = ((positions + 1) * size - 1) / 2
    before = texels.floor()
    return before.long(), texels - before
