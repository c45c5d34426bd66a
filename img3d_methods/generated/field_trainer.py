# SPDX-License-Identifier: Apache-2.0
"""The trainer of generated fields: the field exists before the first step, and refining it is optional."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.engine.optimizers import AdamOptimizerConfig

from img3d_methods.generated.trainer import OptionalRefinement, RefinedRunConfig
from img3d_methods.training.schedulers import ExponentialDecayConfig
from img3d_methods.training.trainer import Img3dTrainerConfig


def field_optimizers() -> dict[str, Any]:
    """An optimizer for the planes and one for the network. Refining starts from a good field, so steps are small."""
    return {
        "planes": {"optimizer": AdamOptimizerConfig(lr=1e-2), "scheduler": ExponentialDecayConfig(lr_final=1e-3)},
        "networks": {"optimizer": AdamOptimizerConfig(lr=5e-4), "scheduler": ExponentialDecayConfig(lr_final=5e-5)},
    }


@dataclass
class Img3dGeneratedFieldTrainerConfig(RefinedRunConfig, Img3dTrainerConfig):
    """Options of a run that holds a generated field."""

    _target: type = field(default_factory=lambda: Img3dGeneratedFieldTrainer)
    max_num_iterations: int = 0
    """Steps of refinement against the input image and the field's own renders; 0 keeps the field as the network
    generated it."""
    optimizers: dict[str, Any] = field(default_factory=field_optimizers)
    """Optimizers and schedules, for each group of the field's parameters."""


class Img3dGeneratedFieldTrainer(OptionalRefinement):
    """Refines the field of an `Img3dFieldModel`."""

    def _preset_steps(self) -> int:
        return 0
