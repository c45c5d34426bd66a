# SPDX-License-Identifier: Apache-2.0
"""The trainers of generated objects: Gaussians exist before the first step, and refining them is optional; meshes are
not trained."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img3d_base.console import print_line
from img3d_base.errors import InputError
from img3d_generators.pairing import about
from img3d_methods.compat import fail
from img3d_methods.distilled.refined_pipeline import RefinedPipeline
from img3d_methods.distilled.refinement import OFF
from img3d_methods.generated.pipeline import Img3dGeneratedPipeline
from img3d_methods.mesh.trainer import Img3dMeshTrainerConfig
from img3d_methods.splat.trainer import Img3dSplatTrainer, Img3dSplatTrainerConfig
from img3d_methods.training.trainer import Img3dTrainer

if TYPE_CHECKING:
    from img3d_methods.training.run_config import RunConfig as Mixin
else:
    Mixin = object

MAX_WORDS = 6
"""Number of a text's words in the name of its experiment."""


class NamedAfterText(Mixin):
    """Mixin for the configuration of a run whose pipeline has a `prompt`.

    Not a dataclass: the defaults that it would inherit would replace those of the class that it is mixed into.
    """

    def set_experiment_name(self) -> None:
        """Names the experiment of a text after its first words."""
        pipeline: Any = self.pipeline
        if self.experiment_name is None and (words := re.findall(r"\w+", pipeline.prompt)):
            self.experiment_name = "-".join(words[:MAX_WORDS])
        super().set_experiment_name()


class GeneratedRunConfig(NamedAfterText):
    """Mixin for the configuration of a run whose asset a generator makes; its pipeline is a `GeneratorOptions`."""

    def print_to_terminal(self) -> None:
        """Checks the options and chooses a generator, before config.yml is written and anything slow begins."""
        super().print_to_terminal()
        if self.load_dir is not None or self.load_checkpoint is not None:
            return  # the checkpoint has the asset
        pipeline: Any = self.pipeline
        try:
            choice = pipeline.choose()
        except InputError as error:
            fail(f"{self.method_name}: {error}")
        print_line(about(choice), "yellow")


class RefinedRunConfig(GeneratedRunConfig):
    """Mixin for the configuration of a run whose asset can be refined; its pipeline has `RefinementOptions`, too."""

    def print_to_terminal(self) -> None:
        """Checks also that a guidance has steps in which to take part."""
        pipeline: Any = self.pipeline
        if pipeline.guidance != OFF and self.max_num_iterations == 0:
            fail(
                f"{self.method_name}: --pipeline.guidance takes part in refining, of which there are 0 steps; say how "
                "many, for example --max-num-iterations 300"
            )
        super().print_to_terminal()

    def trained_steps(self, step: int) -> int:
        """Without refinement the checkpoint has a step that did nothing."""
        return min(step + 1, self.max_num_iterations)


@dataclass
class Img3dGeneratedTrainerConfig(RefinedRunConfig, Img3dSplatTrainerConfig):
    """Training options of a generated object."""

    _target: type = field(default_factory=lambda: Img3dGeneratedTrainer)
    max_num_iterations: int = 300
    """Steps of refinement against the generated views; 0 keeps the object as the network generated it."""


class OptionalRefinement(Img3dTrainer):
    """A trainer of an asset that exists before the first step: 0 steps keep it as it is."""

    pipeline: RefinedPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _set_run_length(self) -> None:
        self._refines = self.config.max_num_iterations > 0  # here 0 does not mean the preset's length
        super()._set_run_length()

    def _has_steps(self) -> bool:
        return self._refines

    def _load_checkpoint(self) -> None:
        """Loads also the guidance, if one was asked for."""
        super()._load_checkpoint()
        options: Any = self.config.pipeline
        if self._has_steps() and options.guidance != OFF:
            self.pipeline.prepare_refinement(self.config.max_num_iterations)


class Img3dGeneratedTrainer(OptionalRefinement, Img3dSplatTrainer):
    """Refines the Gaussians of an `Img3dGeneratedPipeline`."""

    pipeline: Img3dGeneratedPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def _load_checkpoint(self) -> None:
        """Continues from a checkpoint if one is given; otherwise generates the Gaussians."""
        super()._load_checkpoint()
        if self._start_step == 0:
            self.pipeline.generate()


@dataclass
class Img3dGeneratedMeshTrainerConfig(GeneratedRunConfig, Img3dMeshTrainerConfig):
    """Options of a run that holds a generated mesh."""
