# SPDX-License-Identifier: Apache-2.0
"""The optimizers of a splat model, and their learning rates."""

from __future__ import annotations

from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_methods.training.gaussian_adam import GaussianAdamConfig
from img3d_methods.training.schedulers import ExponentialDecayConfig


def splat_optimizers() -> dict[str, Any]:
    """An optimizer for each parameter group of a splat model, in Nerfstudio's format.

    The learning rates are splatfacto's, for poses scaled to [-1, 1], but doubled for positions and scales: a CPU run
    is several times shorter than 30 000 steps (for scales +0.5 dB on fox, benchmarks/NOTES.md). Those of colours and
    rotations are higher where a run has few steps for each photo (+0.7 and +1.3 dB on fox and chair in 2,000 steps, the
    same place).
    """

    def gaussians(lr: float, scheduler: ExponentialDecayConfig | None = None, for_passes: int = 0) -> dict[str, Any]:
        return {"optimizer": GaussianAdamConfig(lr=lr, lr_for_passes=for_passes), "scheduler": scheduler}

    return {
        "means": gaussians(3.2e-4, ExponentialDecayConfig(lr_final=3.2e-6)),
        "features_dc": gaussians(2.5e-3, for_passes=90),
        "features_rest": gaussians(2.5e-3 / 20, for_passes=180),
        "opacities": gaussians(0.05),
        "scales": gaussians(1e-2),
        "quats": gaussians(1e-3, for_passes=180),
        "camera_opt": {
            "optimizer": AdamOptimizerConfig(lr=1e-4, eps=1e-15),
            "scheduler": ExponentialDecayConfig(lr_final=5e-7, warmup_fraction=1 / 30),
        },
        "appearance": {
            "optimizer": AdamOptimizerConfig(lr=1e-3, eps=1e-15),
            "scheduler": ExponentialDecayConfig(lr_final=1e-4),
        },
        "bilateral_grid": {
            "optimizer": AdamOptimizerConfig(lr=2e-3, eps=1e-15),
            "scheduler": ExponentialDecayConfig(lr_final=1e-4, warmup_fraction=1 / 30),
        },
    }
