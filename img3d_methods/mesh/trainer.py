# SPDX-License-Identifier: Apache-2.0
"""A run of a mesh: it is complete before the first step, and none follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from img3d_methods.training.clock import TrainingClock
from img3d_methods.training.trainer import Img3dTrainer, Img3dTrainerConfig


@dataclass
class Img3dMeshTrainerConfig(Img3dTrainerConfig):
    """Options of a run that is not trained."""

    _target: type = field(default_factory=lambda: Img3dMeshTrainer)
    optimizers: dict[str, Any] = field(default_factory=dict)
    """None: nothing is trained."""


class Img3dMeshTrainer(Img3dTrainer):
    """Saves what an `Img3dMeshModel` holds, evaluates its views, and opens the viewer."""

    def _set_run_length(self) -> None:
        """Nerfstudio's writer divides by the logarithm of the number of steps: there is one, which does nothing."""
        self.config.max_num_iterations = 1
        self.config.logging.local_writer.enable = False  # its table fails without a step

    def _step(self, step: int, clock: TrainingClock) -> None:
        self.step = step

    def _preset_steps(self) -> int:
        return 1

    def _prepare_cpu(self) -> None:
        """Embree and torch keep their threads."""

    def _evaluated(self) -> tuple[str, bool]:
        dataset = self.pipeline.datamanager.eval_dataset
        return f"{len(dataset or ())} views of the mesh", False
