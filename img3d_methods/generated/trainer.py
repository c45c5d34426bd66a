# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's trainer for a generated object: its Gaussians are there before the first step, which need not follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from img3d_base.console import CONSOLE
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
    """Steps of refinement against the generated views; 0: the object as the network gives it."""

    def print_to_terminal(self) -> None:
        """Check the options, and settle on a generator before config.yml is written and anything heavy begins."""
        super().print_to_terminal()
        if self.load_dir is not None or self.load_checkpoint is not None:
            return  # the Gaussians are there already
        assert isinstance(self.pipeline, Img3dGeneratedPipelineConfig)
        try:
            choice = self.pipeline.choose()
        except InputError as error:
            fail(f"{self.method_name}: {error}")
        CONSOLE.print(about(choice), style="yellow", markup=False, highlight=False, soft_wrap=True)


class Img3dGeneratedTrainer(Img3dSplatTrainer):
    """Refines what an `Img3dGeneratedPipeline` has generated."""

    pipeline: Img3dGeneratedPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _set_run_length(self) -> None:
        self._refines = self.config.max_num_iterations > 0  # here 0 does not mean the preset's length
        super()._set_run_length()

    def _has_steps(self) -> bool:
        return self._refines

    def _load_checkpoint(self) -> None:
        """Continue from a checkpoint, if one is given; else generate."""
        super()._load_checkpoint()
        if self._start_step == 0:
            self.pipeline.generate()
