# SPDX-License-Identifier: Apache-2.0
"""Semi-global matching (Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", 2008): one
label for each cell of a picture, by the cells' own costs and those of jumps between neighbours, summed along paths."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def semi_global(
    costs: Float[Tensor, "h w D"],
    jumps: Float[Tensor, "D D"],
    stiffness_down: Float[Tensor, "h-1 w"],
    stiffness_right: Float[Tensor, "h w-1"],
) -> Int64[Tensor, "h w"]:
    """The label of each cell, by paths along rows and columns, in both directions.

    Args:
        costs: Of each label in each cell.
        jumps: Costs of a label beside another one, 0 on the diagonal.
        stiffness_down: Factors on these between each cell and the one below it.
        stiffness_right: Factors between each cell and the one to its right.
    """
    down = _along_columns(costs, jumps, stiffness_down)
    up = _along_columns(costs.flip(0), jumps, stiffness_down.flip(0)).flip(0)
    turned, stiffness = costs.transpose(0, 1), stiffness_right.T
    right = _along_columns(turned, jumps, stiffness).transpose(0, 1)
    left = _along_columns(turned.flip(0), jumps, stiffness.flip(0)).flip(0).transpose(0, 1)
    return (down + up + right + left - 3 * costs).argmin(dim=-1)  # each path has the cell's own costs


def _along_columns(
    costs: Float[Tensor, "h w D"], jumps: Float[Tensor, "D D"], stiffness: Float[Tensor, "h-1 w"]
) -> Float[Tensor, "h w D"]:
    """The least costs of a path from the first row down to each cell."""
    paths = [costs[0]]
    for row, factors in zip(costs[1:], stiffness, strict=True):
        before = paths[-1] - paths[-1].amin(dim=-1, keepdim=True)  # or they would grow with every row
        paths.append(row + (before[:, None] + factors[:, None, None] * jumps).amin(dim=-1))
    return torch.stack(paths)
