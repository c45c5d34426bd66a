# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's config for `img3d_kernels.adam.GaussianAdam`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_kernels.adam import GaussianAdam

MAX_LR_FACTOR = 4.0
"""Limit of what a short run multiplies a learning rate by."""


@dataclass
class GaussianAdamConfig(AdamOptimizerConfig):
    """Adam for Gaussians and other rows of parameters, with splatfacto's tiny `eps`, since many of their gradients
    are tiny."""

    _target: type = field(default_factory=lambda: GaussianAdam)
    eps: float = 1e-15
    betas: tuple[float, float] = (0.9, 0.999)
    """Factors of the moments at each step."""
    lr_for_passes: int = 0
    """Training steps per photo that the learning rate is for. In runs with fewer it is higher in proportion, at most
    fourfold; where each photo is seen often, a higher one would fit what only that photo shows. 0: all runs have the
    same."""

    def setup(self, params: Any) -> GaussianAdam:
        """The optimizer of some parameters."""
        return self._target(params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)

    def for_run(self, passes: float) -> GaussianAdamConfig:
        """The configuration for a run that has `passes` steps per photo."""
        factor = min(max(self.lr_for_passes / max(passes, 1.0), 1.0), MAX_LR_FACTOR)
        return replace(self, lr=self.lr * factor)
