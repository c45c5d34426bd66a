# SPDX-License-Identifier: Apache-2.0
"""What Nerfstudio's pipelines of objects that a guidance shapes have in common, whatever represents the object."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch

from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.rows import GuidanceRow, guidance_row
from img3d_methods.distilled.begun_pipeline import BegunPipeline
from img3d_methods.distilled.datamanager import Img3dRandomViewsDatamanager, Img3dRandomViewsDatamanagerConfig
from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.distilled.options import GuidedPipelineOptions, absolute_paths
from img3d_methods.training.pipeline import Img3dPipelineConfig
from img3d_methods.training.run_config import absolute


@dataclass
class GuidedPipelineConfig(GuidedPipelineOptions, Img3dPipelineConfig):
    """The guidance of a text, and the model that it shapes."""

    datamanager: Img3dRandomViewsDatamanagerConfig = field(default_factory=Img3dRandomViewsDatamanagerConfig)  # pyright: ignore[reportIncompatibleVariableOverride]
    """From where training looks at the object."""

    def prepare(self, run: str) -> GuidanceRow:
        """Checks the options, and tells the data what it has to know of them.

        Args:
            run: Tells runs apart.

        Returns:
            The guidance.

        Raises:
            InputError: An option is missing or out of range, or weights are missing.
        """
        absolute_paths(self, absolute)
        row = self.check()
        self.datamanager.check_perturbations(row)
        self.datamanager.seed = self.seed
        parser: Any = self.datamanager.dataparser
        parser.guidance, parser.elevation = row.name, self.elevation if row.shows == "image" else 0.0
        parser.run = "" if row.shows == "image" else run
        return row


class GuidedPipeline(BegunPipeline):
    """Shapes a model. Subclasses say how it begins, and what the loss of a step is."""

    config: GuidedPipelineConfig
    datamanager: Img3dRandomViewsDatamanager  # pyright: ignore[reportIncompatibleVariableOverride]

    _guidance: ScoreDistillation | None = None

    def _begin(self) -> None:
        self._load_guidance(None)

    def _load_guidance(self, image: torch.Tensor | None) -> None:
        row = guidance_row(self.config.guidance)
        self._guidance = self.config.made_guidance(row, image, torch.device(self.device))

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Renders from a random side, and lets the guidance say what should be there."""
        assert self._guidance is not None
        with failing_in_one_line():
            return self._step(self._guidance, step, step / max(1, self.num_steps))

    @abstractmethod
    def _step(
        self, guidance: ScoreDistillation, step: int, progress: float
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Outputs, losses and metrics of a step.

        Args:
            guidance: The guidance.
            step: The step.
            progress: The part of the run that is over.
        """

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Also the state of the random numbers, so that a run can be continued."""
        state = super().state_dict(*args, **kwargs)
        if self._guidance is not None:
            state["draws"] = self.datamanager.draws.get_state()
            state["guidance_draws"] = self._guidance.state_dict()["generator"]
        return state

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a checkpoint."""
        loaded_state = dict(loaded_state)
        draws, of_guidance = (loaded_state.pop(name, None) for name in ("draws", "guidance_draws"))
        super().load_pipeline(loaded_state, step)
        if self._guidance is not None and draws is not None and of_guidance is not None:
            self.datamanager.draws.set_state(draws.cpu())
            self._guidance.load_state_dict({"generator": of_guidance})
