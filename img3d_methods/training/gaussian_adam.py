# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's config for `img3d_kernels.adam.GaussianAdam`."""

from __future__ import annotations

from dataclasses import dataclass, field

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_kernels.adam import GaussianAdam


@dataclass
class GaussianAdamConfig(AdamOptimizerConfig):
    """Adam for Gaussians and other rows of parameters, with splatfacto's tiny `eps`, since many of their gradients
    are tiny."""

    _target: type = field(default_factory=lambda: GaussianAdam)
    eps: float = 1e-15
    betas: tuple[float, float] = (0.9, 0.999)
    """Factors of the moments at each step."""
