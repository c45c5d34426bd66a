# SPDX-License-Identifier: Apache-2.0
"""The trainer of a mesh whose texture a guidance refines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_methods.distilled.guided_trainer import GuidedRunConfig, PicturingTrainer
from img3d_methods.distilled.retexture_pipeline import Img3dRetexturePipeline
from img3d_methods.training.gaussian_adam import GaussianAdamConfig
from img3d_methods.training.schedulers import ExponentialDecayConfig
from img3d_methods.training.trainer import Img3dTrainerConfig

NUM_STEPS = 50
"""Steps of a run for which the user gave none: DreamGaussian's."""


def texture_optimizers() -> dict[str, Any]:
    """Adam without memory of the direction: most texels are out of view in the next step, and would go on."""
    config = GaussianAdamConfig(lr=0.2, betas=(0.0, 0.99))
    return {"texels": {"optimizer": config, "scheduler": ExponentialDecayConfig(lr_final=0.01)}}


@dataclass
class Img3dRetextureTrainerConfig(GuidedRunConfig, Img3dTrainerConfig):
    """Options of a run that refines a mesh's texture."""

    _target: type = field(default_factory=lambda: Img3dRetextureTrainer)
    max_num_iterations: int = 0
    """Number of steps of the whole run, in each of which the guidance refines one picture. 0: 50."""
    optimizers: dict[str, Any] = field(default_factory=texture_optimizers)
    """Optimizers and schedules, for each group of the model's parameters."""


class Img3dRetextureTrainer(PicturingTrainer):
    """Refines the texture of an `Img3dRetexturePipeline`."""

    config: Img3dRetextureTrainerConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    pipeline: Img3dRetexturePipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _preset_steps(self) -> int:
        return NUM_STEPS

    def _cameras(self, azimuths: Float[Tensor, "V"], elevations: Float[Tensor, "V"], size: int) -> Cameras:
        return self.pipeline.cameras(azimuths, elevations, size)

    def _evaluated(self) -> tuple[str, bool]:
        return f"{len(self.pipeline.datamanager.eval_dataset or ())} views of the mesh as it was given", False

    def _guess_message(self) -> str | None:
        return "how much has changed, not how good it is: look at the pictures"
