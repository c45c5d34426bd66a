# SPDX-License-Identifier: Apache-2.0
"""Statistics for 3DGS's densification, accumulated while gradients are computed."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass
class GradStats:
    """Statistics for densification in float32, as in gsplat's `DefaultStrategy._update_state`.

    The backward pass of `rasterization` adds to them in every training step.
    """

    grad2d: Float[Tensor, "N"]
    """Sum over views of the gradient norm of `means2d`, in half image sizes."""
    count: Float[Tensor, "N"]
    """Number of views that see the Gaussian. Views that do not see it are skipped."""
    radii: Float[Tensor, "N"] | None = None
    """Largest radius in any view, in units of the image's longer side; None if it is not needed."""
    absgrad: bool = False
    """Whether `grad2d` sums absolute gradients over pixels instead (AbsGS, arXiv 2404.10484)."""
    means2d_absgrad: Float[Tensor, "C N 2"] | None = field(default=None, repr=False)
    """Absolute gradients of one step: written by the backward pass of blending, read by that of projection."""
