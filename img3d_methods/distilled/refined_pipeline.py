# SPDX-License-Identifier: Apache-2.0
"""A pipeline of an asset that a generator made, in whose refinement a guidance takes part if it is asked to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from img3d_generators.registry import InputView
from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.distilled.refinement import GuidedRefinement
from img3d_methods.generated.generated_views import read_given_views
from img3d_methods.training.pipeline import Img3dPipeline


class RefinedPipeline(Img3dPipeline):
    """Mixin for a pipeline whose configuration has `RefinementOptions`, and whose data are views of one object, as
    `write_views` writes them."""

    num_steps: int = 1
    """Length of the run; `prepare_refinement` sets it."""
    _refinement: GuidedRefinement | None = None

    def prepare_refinement(self, num_steps: int) -> None:
        """Loads the guidance.

        Args:
            num_steps: Length of the run.

        Raises:
            InputError: Weights are missing or damaged, or there is no image.
        """
        options: Any = self.config
        views, image, _ = read_given_views(Path(self.datamanager.train_dataset.metadata["views_folder"]))
        view = InputView(0.0, views.fov, float(views.camera_to_worlds[0, :, 3].norm()))
        seed: int = options.datamanager.dataparser.seed
        self.num_steps = num_steps
        self._refinement = options.refinement(image, view, torch.device(self.device), seed)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Also what the guidance says of a random side, if there is one."""
        outputs, losses, metrics = super().get_train_loss_dict(step)
        if self._refinement is not None:
            size = int(self.datamanager.train_cameras.width[0])
            with failing_in_one_line():
                losses["sds"] = self._refinement.loss(self.model, size, step, step / self.num_steps)
        return outputs, losses, metrics
