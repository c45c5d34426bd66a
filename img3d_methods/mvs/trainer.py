# SPDX-License-Identifier: Apache-2.0
"""The trainer of `img3d-mvs`, which has no steps: the mesh is reconstructed, and saved as a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_base.signals import status_of
from img3d_methods.compat import fail
from img3d_methods.mvs.pipeline import Img3dMvsPipeline, Img3dMvsPipelineConfig, cache_folder
from img3d_methods.training.trainer import Img3dTrainer, Img3dTrainerConfig


@dataclass
class Img3dMvsTrainerConfig(Img3dTrainerConfig):
    """Options of a reconstruction's run."""

    _target: type = field(default_factory=lambda: Img3dMvsTrainer)
    pipeline: Img3dMvsPipelineConfig = field(default_factory=Img3dMvsPipelineConfig)  # pyright: ignore[reportIncompatibleVariableOverride]
    """The photos, and how finely they are reconstructed."""
    optimizers: dict[str, Any] = field(default_factory=dict)
    """Empty: nothing is trained."""

    def trained_steps(self, step: int) -> int:
        """None, although the checkpoint has a step."""
        return 0

    def print_to_terminal(self) -> None:
        """Checks the options before config.yml is written and anything slow begins."""
        super().print_to_terminal()
        try:
            self.pipeline.resolved()
        except InputError as error:
            fail(str(error))


class Img3dMvsTrainer(Img3dTrainer):
    """Reconstructs the mesh of an `Img3dMvsPipeline`, evaluates the held-out photos, and opens the viewer."""

    pipeline: Img3dMvsPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _has_steps(self) -> bool:
        return False

    def _preset_steps(self) -> int:
        return 0

    def _load_checkpoint(self) -> None:
        """Loads the mesh of a checkpoint if one is given; otherwise reconstructs it."""
        super()._load_checkpoint()
        if self._start_step > 0:
            return
        try:
            self.pipeline.reconstruct()
        except KeyboardInterrupt as interrupt:
            folder = cache_folder(self.pipeline.config)
            message = f"Interrupted: what is done is kept in {folder}. To go on, repeat the command."
            print_line(message, "bold yellow")
            raise SystemExit(status_of(interrupt)) from None
