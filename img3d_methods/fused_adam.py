# SPDX-License-Identifier: Apache-2.0
"""Adam in one pass over each parameter, on a CPU too (torch's fused implementation)."""

from __future__ import annotations

from dataclasses import dataclass

from nerfstudio.engine.optimizers import AdamOptimizerConfig


@dataclass
class FusedAdamConfig(AdamOptimizerConfig):
    """Adam for Gaussians: splatfacto's tiny `eps`, because many of their gradients are tiny."""

    eps: float = 1e-15
    fused: bool = True
    """Update moments and parameters in one pass. The usual one makes about ten, each through all of the memory."""
