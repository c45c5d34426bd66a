# SPDX-License-Identifier: Apache-2.0
"""Converts tokens of three planes to planes of features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


def planes_of(tokens: Float[Tensor, "B C T"], upsample: nn.Module) -> Float[Tensor, "B 3 D H W"]:
    """The finished planes.

    Args:
        tokens: In the order plane, row, column; the planes are square.
        upsample: Enlarges a plane of tokens: a transposed convolution.
    """
    size = round((tokens.shape[-1] / 3) ** 0.5)
    planes = tokens.unflatten(2, (3, size, size)).transpose(1, 2)
    return upsample(planes.flatten(0, 1)).unflatten(0, (-1, 3))
