# SPDX-License-Identifier: Apache-2.0
"""The trainer of Gaussians that a guidance shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from img3d_methods.distilled.guided_trainer import GuidedRunConfig, GuidedTrainer
from img3d_methods.distilled.pipeline import Img3dDistilledPipeline
from img3d_methods.splat.trainer import Img3dSplatTrainer, Img3dSplatTrainerConfig
from img3d_methods.training.gaussian_adam import GaussianAdamConfig
from img3d_methods.training.schedulers import ExponentialDecayConfig

NUM_STEPS = 500
"""Steps of a run for which the user gave none."""


def distilled_optimizers() -> dict[str, Any]:
    """DreamGaussian's learning rates, in a world in which the cameras' distance is 1 instead of 2."""

    def gaussians(lr: float, scheduler: ExponentialDecayConfig | None = None) -> dict[str, Any]:
        return {"optimizer": GaussianAdamConfig(lr=lr), "scheduler": scheduler}

    return {
        "means": gaussians(5e-3, ExponentialDecayConfig(lr_final=1e-4)),
        "features_dc": gaussians(1.1e-2),  # of logits; moves a grey as fast as 0.01 does of harmonics
        "features_rest": gaussians(0.01 / 20),
        "opacities": gaussians(0.05),
        "scales": gaussians(5e-3),
        "quats": gaussians(5e-3),
        "camera_opt": gaussians(1e-4),
        "bilateral_grid": gaussians(2e-3),
    }


@dataclass
class Img3dDistilledTrainerConfig(GuidedRunConfig, Img3dSplatTrainerConfig):
    """Options of a run whose Gaussians a guidance shapes."""

    _target: type = field(default_factory=lambda: Img3dDistilledTrainer)
    max_num_iterations: int = 0
    """Number of steps of the whole run; all schedules stretch to it. 0: 500."""
    optimizers: dict[str, Any] = field(default_factory=distilled_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dDistilledTrainer(GuidedTrainer, Img3dSplatTrainer):
    """Shapes the Gaussians of an `Img3dDistilledPipeline`."""

    config: Img3dDistilledTrainerConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    pipeline: Img3dDistilledPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _preset_steps(self) -> int:
        return NUM_STEPS
