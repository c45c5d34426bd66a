# SPDX-License-Identifier: Apache-2.0
"""The trainer of a radiance field that a guidance shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from img3d_methods.distilled.field_pipeline import Img3dShapedFieldPipeline
from img3d_methods.distilled.guided_trainer import GuidedRunConfig, GuidedTrainer
from img3d_methods.training.gaussian_adam import GaussianAdamConfig
from img3d_methods.training.schedulers import ExponentialDecayConfig
from img3d_methods.training.trainer import Img3dTrainerConfig

NUM_STEPS = 10_000
"""Steps of a run for which the user gave none: threestudio's of DreamFusion."""


def field_optimizers() -> dict[str, Any]:
    """An optimizer for each parameter group, with threestudio's learning rates of DreamFusion."""

    def adam(lr: float) -> dict[str, Any]:
        config = GaussianAdamConfig(lr=lr, betas=(0.9, 0.99))
        return {"optimizer": config, "scheduler": ExponentialDecayConfig(lr_final=lr / 10)}

    return {"tables": adam(1e-2), "networks": adam(1e-2), "background": adam(1e-3)}


@dataclass
class Img3dShapedFieldTrainerConfig(GuidedRunConfig, Img3dTrainerConfig):
    """Options of a run whose field a guidance shapes."""

    _target: type = field(default_factory=lambda: Img3dShapedFieldTrainer)
    max_num_iterations: int = 0
    """Number of steps of the whole run; all schedules stretch to it. 0: 10,000."""
    optimizers: dict[str, Any] = field(default_factory=field_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dShapedFieldTrainer(GuidedTrainer):
    """Shapes the field of an `Img3dShapedFieldPipeline`."""

    config: Img3dShapedFieldTrainerConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    pipeline: Img3dShapedFieldPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _preset_steps(self) -> int:
        return NUM_STEPS
