# SPDX-License-Identifier: Apache-2.0
"""The trainer of `img3d-mesh`, which trains nothing: the mesh is read, and saved as a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from img3d_methods.training.trainer import Img3dTrainer, Img3dTrainerConfig


@dataclass
class Img3dMeshTrainerConfig(Img3dTrainerConfig):
    """Options of a mesh's run, which is not trained."""

    _target: type = field(default_factory=lambda: Img3dMeshTrainer)
    optimizers: dict[str, Any] = field(default_factory=dict)
    """None: nothing is trained."""

    def trained_steps(self, step: int) -> int:
        """None, although the checkpoint has a step."""
        return 0


class Img3dMeshTrainer(Img3dTrainer):
    """Saves the mesh of an `Img3dMeshModel`, evaluates its views, and opens the viewer."""

    def _has_steps(self) -> bool:
        return False

    def _preset_steps(self) -> int:
        return 0

    def _evaluated(self) -> tuple[str, bool]:
        dataset = self.pipeline.datamanager.eval_dataset
        return f"{len(dataset or ())} views of the mesh", False
