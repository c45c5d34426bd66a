# SPDX-License-Identifier: Apache-2.0
"""The pipeline of Gaussian splats: if the data has no seed points, they are placed in what the cameras see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.splat.seed_points import random_points_in_frusta
from img3d_methods.training.pipeline import Img3dPipeline, Img3dPipelineConfig


@dataclass
class Img3dSplatPipelineConfig(Img3dPipelineConfig):
    """Data and model of `img3d-splat`."""

    _target: type = field(default_factory=lambda: Img3dSplatPipeline)


class Img3dSplatPipeline(Img3dPipeline):
    """Connects photos and an `Img3dSplatModel`."""

    _model: Img3dSplatModel

    @property
    def model(self) -> Img3dSplatModel:
        """The model itself, also in one of several processes."""
        return cast(Img3dSplatModel, super().model)

    def __init__(self, config: Img3dSplatPipelineConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        model = self.model
        if model.seed_points is None or model.config.random_init or len(model.seed_points[0]) == 0:
            assert self.datamanager.train_dataset is not None
            points = random_points_in_frusta(self.datamanager.train_dataset.cameras, model.config.num_random)
            model.place_random_points(points)
