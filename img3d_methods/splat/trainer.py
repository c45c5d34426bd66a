# SPDX-License-Identifier: Apache-2.0
"""The trainer of Gaussian splats, whose runs have schedules of resolution and densification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.engine.optimizers import Optimizers

from img3d_kernels.mcmc import GROWTH
from img3d_methods.splat.optimizers import splat_optimizers
from img3d_methods.splat.pipeline import Img3dSplatPipeline
from img3d_methods.training.clock import WorkPlan
from img3d_methods.training.presets import preset
from img3d_methods.training.threads import leave_threads_to_kernels
from img3d_methods.training.trainer import Img3dTrainer, Img3dTrainerConfig


@dataclass
class Img3dSplatTrainerConfig(Img3dTrainerConfig):
    """Training options of Gaussian splats; defaults depend on the device."""

    _target: type = field(default_factory=lambda: Img3dSplatTrainer)
    optimizers: dict[str, Any] = field(default_factory=splat_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dSplatTrainer(Img3dTrainer):
    """Trains an `Img3dSplatModel`."""

    pipeline: Img3dSplatPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _preset_steps(self) -> int:
        model_config: Any = self.config.pipeline.model
        return preset(model_config.preset).max_num_iterations

    def setup_optimizers(self) -> Optimizers:
        """Creates the optimizers, once the number of photos has decided on the length of the run."""
        if self._length_is_presets:
            self.config.max_num_iterations = self.pipeline.model.preset_steps
        return super().setup_optimizers()

    def _downscale_at(self, step: int) -> int:
        return self.pipeline.model.schedule.downscale_factor(step)

    def _full_size_step(self) -> int:
        return max(self.pipeline.model.schedule.doublings, default=0)

    def _num_gaussians(self) -> int:
        return self.pipeline.model.num_points

    def _work_plan(self, pixels: int) -> WorkPlan:
        model = self.pipeline.model
        growth = GROWTH if model.config.strategy == "mcmc" else None
        return model.schedule.work_plan(pixels, model.max_gaussians, growth)

    def _prepare_cpu(self) -> None:
        super()._prepare_cpu()
        leave_threads_to_kernels()
