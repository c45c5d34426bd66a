# SPDX-License-Identifier: Apache-2.0
"""What 3DGS's densification goes by, added up while gradients are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass
class GradStats:
    """Sums over training steps, which the backward pass of `rasterization` adds to; as gsplat's `DefaultStrategy` has
    them (`_update_state`), in float32.
    """

    grad2d: Float[Tensor, "N"]
    """Sum over the views of the norm of the gradient of `means2d`, in half images."""
    count: Float[Tensor, "N"]
    """Number of views, those that do not have the Gaussian in them left out."""
    radii: Float[Tensor, "N"] | None = None
    """Greatest radius in any view, the image's longer side being 1; None where nobody asks."""
    absgrad: bool = False
    """Whether grad2d adds up the sums of pixels' absolute gradients instead (AbsGS, arXiv 2404.10484)."""
    means2d_absgrad: Float[Tensor, "C N 2"] | None = field(default=None, repr=False)
    """These sums, on their way from the blending's backward pass to the projection's."""
