# SPDX-License-Identifier: Apache-2.0
"""The trainer of `img3d-nerf`: that of splats, where nothing is counted and images keep their size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_methods.field.model import Img3dNerfModelConfig
from img3d_methods.splat.gaussian_adam import GaussianAdamConfig
from img3d_methods.splat.presets import nerf_steps
from img3d_methods.splat.trainer import Img3dTrainer, Img3dTrainerConfig
from img3d_methods.training.clock import WorkPlan
from img3d_methods.training.memory import keep_freed_memory
from img3d_methods.training.schedulers import ExponentialDecayConfig


def nerf_optimizers() -> dict[str, Any]:
    """An optimizer for each group of the model's parameters; nerfacto's rates, twice that of tables for short runs."""

    def decay() -> ExponentialDecayConfig:
        return ExponentialDecayConfig(lr_final=1e-4)

    return {
        # What Gaussians are there are a table's entries here: those that a step does not touch cost nothing.
        "tables": {"optimizer": GaussianAdamConfig(lr=2e-2), "scheduler": decay()},
        "networks": {"optimizer": AdamOptimizerConfig(lr=1e-2, eps=1e-15), "scheduler": decay()},
    }


@dataclass
class Img3dNerfTrainerConfig(Img3dTrainerConfig):
    """Training options of a radiance field; defaults suit the device that is found."""

    _target: type = field(default_factory=lambda: Img3dNerfTrainer)
    optimizers: dict[str, Any] = field(default_factory=nerf_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dNerfTrainer(Img3dTrainer):
    """Trains an `Img3dNerfModel`."""

    def _preset_steps(self) -> int:
        model_config = self.config.pipeline.model
        assert isinstance(model_config, Img3dNerfModelConfig)
        return nerf_steps(model_config.preset)

    def _downscale_at(self, step: int) -> int:
        return 1

    def _full_size_step(self) -> int:
        return 0

    def _num_gaussians(self) -> int:
        return 0

    def _work_plan(self, pixels: int) -> WorkPlan:
        return WorkPlan(np.full(self.config.max_num_iterations, pixels))

    def _prepare_cpu(self) -> None:
        """The networks are torch's, which keeps its threads."""
        keep_freed_memory()
