# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline with seed points from the cameras, metrics only when shown, and bad input in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from img3d_dataparsers.errors import InputError
from img3d_methods.compat import fail
from img3d_methods.seed_points import random_points_in_frusta
from img3d_methods.splat_model import Img3dSplatModel


@dataclass
class Img3dSplatPipelineConfig(VanillaPipelineConfig):
    """Data and model of `img3d-splat`."""

    _target: type = field(default_factory=lambda: Img3dSplatPipeline)


class Img3dSplatPipeline(VanillaPipeline):
    """Brings photos to an `Img3dSplatModel`."""

    def __init__(self, config: Img3dSplatPipelineConfig, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(config, *args, **kwargs)
        except InputError as error:  # here, because ns-eval, ns-viewer, … have no trainer that could catch it
            fail(str(error))
        self.steps_per_metrics = 1
        """Steps between two measurements of a training view; the trainer sets it to what it prints."""
        model = self.model
        assert isinstance(model, Img3dSplatModel)
        if model.seed_points is None or model.config.random_init or len(model.seed_points[0]) == 0:
            assert self.datamanager.train_dataset is not None
            points = random_points_in_frusta(self.datamanager.train_dataset.cameras, model.config.num_random)
            model.place_random_points(points)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One training view's outputs and losses, and its metrics if this step is shown."""
        camera, batch = self.datamanager.next_train(step)
        outputs = self._model(camera)
        metrics = self.model.get_metrics_dict(outputs, batch) if step % self.steps_per_metrics == 0 else {}
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics
