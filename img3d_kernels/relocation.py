# SPDX-License-Identifier: Apache-2.0
"""The opacity and scales with which n coincident copies of a Gaussian look like the one that they replace.

Equation (9) of "3D Gaussian Splatting as Markov Chain Monte Carlo" (Kheradmand et al. 2024, arXiv 2404.09591), for any
device; gsplat computes it on CUDA only.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

N_MAX = 51
"""Largest number of copies of one Gaussian; more are treated as this many, as in gsplat."""


def binomial_table(n_max: int = N_MAX) -> Float[Tensor, "n_max n_max"]:
    """Binomial coefficients `[n, k]` for n, k < `n_max`, in double precision: float32 cannot represent them exactly."""
    table = [[float(math.comb(n, k)) for k in range(n_max)] for n in range(n_max)]
    return torch.tensor(table, dtype=torch.float64)


def compute_relocation(
    opacities: Float[Tensor, "N"],
    scales: Float[Tensor, "N 3"],
    ratios: Int[Tensor, "N"],
    binoms: Float[Tensor, "n_max n_max"],
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N 3"]]:
    """Computes the opacity and scales of each of the `ratios` copies that together replace one Gaussian.

    Args:
        opacities: Opacities of the Gaussians to replace, in (0, 1).
        scales: Scales of the Gaussians to replace, in world units.
        ratios: Number of copies that replace each; clamped to [1, `n_max`].
        binoms: From `binomial_table`.

    Returns:
        new_opacities: 1 - (1 - opacity)^(1/n): n copies together transmit as much light as the original.
        new_scales: Chosen so that the integral of the opacity along any line through the centre is unchanged.
    """
    n_max = len(binoms)
    n = ratios.clamp(1, n_max).long()[:, None]  # [N, 1]
    k = torch.arange(n_max, device=opacities.device)[None]  # [1, n_max]
    # Double precision: the sum below alternates in sign, with terms up to 1e5 times its value.
    old = opacities.double()[:, None]
    new = -torch.expm1(torch.log1p(-old) / n)

    # The paper sums C(i - 1, k) over i = k + 1 ... n, which is C(n, k + 1) = C(n - 1, k) n / (k + 1).
    # Where k >= n the table holds 0.
    chosen = binoms.double()[n[:, 0] - 1] * n / (k + 1)
    signs = 1.0 - 2.0 * (k % 2)
    denominators = (chosen * signs / (k + 1).double().sqrt() * new ** (k + 1)).sum(dim=-1, keepdim=True)
    return new[:, 0].to(opacities.dtype), (old / denominators * scales).to(scales.dtype)
