# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline, which computes metrics only when they are shown and reports bad input in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from img3d_base.errors import InputError
from img3d_methods.compat import check_poses_to_interpolate, fail, turn_for_spiral
from img3d_methods.training.datamanager import Img3dDatamanager
from img3d_methods.training.run_config import moved_data_message


@dataclass
class Img3dPipelineConfig(VanillaPipelineConfig):
    """Data and model of a method."""

    _target: type = field(default_factory=lambda: Img3dPipeline)


class Img3dPipeline(VanillaPipeline):
    """Connects a data manager and a model."""

    datamanager: Img3dDatamanager  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        config: Img3dPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        if test_mode != "val" and (message := moved_data_message(config.datamanager)):  # not in ns-train
            fail(message)
        try:
            super().__init__(config, device, test_mode, **kwargs)
        except InputError as error:  # here, because ns-eval, ns-viewer and others have no trainer to catch it
            fail(str(error))
        turn_for_spiral(self.datamanager)
        check_poses_to_interpolate(self.datamanager)
        self.steps_per_metrics = 1
        """Steps between two computations of training metrics; the trainer sets it to its logging interval."""

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Outputs and losses of a step, and its metrics if they are shown."""
        camera_or_rays, batch = self.datamanager.next_train(step)
        outputs = self._model(camera_or_rays)
        metrics = self.model.get_metrics_dict(outputs, batch) if step % self.steps_per_metrics == 0 else {}
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, float]:
        """Means of the metrics, and their deviations unless there is one photo: upstream's are NaN then, not JSON."""
        get_std = get_std and len(data_loader) > 1
        return super().get_average_image_metrics(data_loader, image_prefix, step, output_path, get_std)
