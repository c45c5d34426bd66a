# SPDX-License-Identifier: Apache-2.0
"""The trainer of `img3d-ngp` and `img3d-nerf`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_methods.training.gaussian_adam import GaussianAdamConfig
from img3d_methods.training.presets import nerf_preset
from img3d_methods.training.schedulers import ExponentialDecayConfig
from img3d_methods.training.threads import leave_threads_to_kernels
from img3d_methods.training.trainer import Img3dTrainer, Img3dTrainerConfig


def nerf_optimizers(tables_lr_final: float = 2e-3, networks_lr_final: float = 1e-3) -> dict[str, Any]:
    """An optimizer for each parameter group.

    The learning rates are nerfacto's, doubled for the tables because runs are short. The second beta and the slow
    decay, to a tenth, are Instant-NGP's: with nerfacto's decay to a hundredth, the second half of a run learns little
    (fox after 1,000 steps: 24.2 dB instead of 26.4).
    """
    return {
        # Like Gaussians, entries of a hash table that get no gradient in a step are not updated.
        "tables": {
            "optimizer": GaussianAdamConfig(lr=2e-2, betas=(0.9, 0.99)),
            "scheduler": ExponentialDecayConfig(lr_final=tables_lr_final),
        },
        "networks": {
            "optimizer": GaussianAdamConfig(lr=1e-2, betas=(0.9, 0.99)),
            "scheduler": ExponentialDecayConfig(lr_final=networks_lr_final),
        },
        "camera_opt": {
            "optimizer": AdamOptimizerConfig(lr=1e-3, eps=1e-15),
            "scheduler": ExponentialDecayConfig(lr_final=1e-4),
        },
    }


@dataclass
class Img3dNerfTrainerConfig(Img3dTrainerConfig):
    """Training options of a radiance field; defaults depend on the device."""

    _target: type = field(default_factory=lambda: Img3dNerfTrainer)
    optimizers: dict[str, Any] = field(default_factory=nerf_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dNerfTrainer(Img3dTrainer):
    """Trains an `Img3dNerfModel`."""

    def _preset_steps(self) -> int:
        model_config: Any = self.config.pipeline.model
        return nerf_preset(model_config.preset).max_num_iterations

    def _prepare_cpu(self) -> None:
        super()._prepare_cpu()
        leave_threads_to_kernels()
