# SPDX-License-Identifier: Apache-2.0
"""The trainer of generated objects: the Gaussians exist before the first step, and refinement is optional."""

from __future__ import annotations

from dataclasses import dataclass, field

from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_generators.pairing import about
from img3d_methods.compat import fail
from img3d_methods.generated.pipeline import Img3dGeneratedPipeline, Img3dGeneratedPipelineConfig
from img3d_methods.splat.trainer import Img3dSplatTrainer, Img3dSplatTrainerConfig


@dataclass
class Img3dGeneratedTrainerConfig(Img3dSplatTrainerConfig):
    """Training options of a generated object."""

    _target: type = field(default_factory=lambda: Img3dGeneratedTrainer)
    max_num_iterations: int = 300
    """Steps of refinement against the generated views; 0 keeps the object as the network generated it."""

    def print_to_terminal(self) -> None:
        """Checks the options and chooses a generator, before config.yml is written and anything slow begins."""
        super().print_to_terminal()
        if self.load_dir is not None or self.load_checkpoint is not None:
            return  # the checkpoint has the Gaussians
        assert isinstance(self.pipeline, Img3dGeneratedPipelineConfig)
        try:
            choice = self.pipeline.choose()
        except InputError as error:
            fail(f"{self.method_name}: {error}")
        print_line(about(choice), "yellow")


class Img3dGeneratedTrainer(Img3dSplatTrainer):
    """Refines the Gaussians of an `Img3dGeneratedPipeline`."""

    pipeline: Img3dGeneratedPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _set_run_length(self) -> None:
        self._refines = self.config.max_num_iterations > 0  # here 0 does not mean the preset's length
        super()._set_run_length()

    def _has_steps(self) -> bool:
        return self._refines

    def _load_checkpoint(self) -> None:
        """Continues from a checkpoint if one is given; otherwise generates the Gaussians."""
        super()._load_checkpoint()
        if self._start_step == 0:
            self.pipeline.generate()
