# SPDX-License-Identifier: Apache-2.0
"""Training on smaller images: the photo's, and the low-pass filter that the rasteriser applies to projected Gaussians
(its `eps2d`)."""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

SCREEN_DILATION = 0.3
"""Variance that is added to projected Gaussians, in pixels squared: the value of 3DGS."""


def screen_dilation(downscale_factor: int) -> float:
    """The variance to add, in pixels squared of the smaller image, so that an image rendered at 1 / `downscale_factor`
    of the size looks like the full-size image whose blocks of pixels are averaged.

    Averaging f pixels along an axis adds the variance of their centres, (f² - 1) / 12. With the full-size value
    instead, a coarse image is blurred f times as widely, and training on it makes Gaussians that are too small for the
    full size: on fox, two decibels were lost by half of the run (benchmarks/NOTES.md).
    """
    return (SCREEN_DILATION + (downscale_factor**2 - 1) / 12) / downscale_factor**2


def downscaled(image: Float[Tensor, "H W C"], factor: int) -> Float[Tensor, "h w C"]:
    """Means of blocks of `factor` x `factor` pixels; rows and columns that fill no block are left out.

    The same as torch's `avg_pool2d`, which takes six times as long for channels in the last dimension.
    """
    height, width = image.shape[0] // factor, image.shape[1] // factor
    rows = image[: height * factor, : width * factor].reshape(height, factor, -1)
    columns = reduce(torch.add, rows.unbind(1)).view(height * width, factor, -1)
    return reduce(torch.add, columns.unbind(1)).view(height, width, -1) / factor**2
