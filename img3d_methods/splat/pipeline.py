# SPDX-License-Identifier: Apache-2.0
"""The pipeline of Gaussian splats: if the data has no seed points, they are placed in what the cameras see."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from img3d_methods.mvs.pipeline import depth_of_photos
from img3d_methods.mvs.presets import PRESETS
from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.splat.seed_points import random_points_in_frusta
from img3d_methods.splat.stereo_prior import StereoPrior
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

    def __init__(
        self,
        config: Img3dSplatPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, device, test_mode, **kwargs)
        model, datamanager = self.model, self.datamanager
        cameras = datamanager.train_dataset.cameras
        if model.seed_points is None or model.config.random_init or len(model.seed_points[0]) == 0:
            model.place_random_points(random_points_in_frusta(cameras, model.config.num_random))
        if test_mode == "val":  # in training
            photos = datamanager.cached_train
            model.know_photos([photo["image"] for photo in photos], cameras, [photo.get("mask") for photo in photos])
            if model.config.stereo_prior > 0:
                seen, maps = depth_of_photos(config, datamanager, PRESETS["fast"])
                model.stereo_prior = StereoPrior.of(seen.views, maps)
