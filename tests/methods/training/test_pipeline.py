# SPDX-License-Identifier: Apache-2.0
"""Held-out photos are measured as `ns-eval` writes it down."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from img3d_methods.training.pipeline import Img3dPipeline


class Model(nn.Module):
    """Whose error is that of each photo itself."""

    def get_outputs_for_camera(self, camera: Any) -> dict[str, Any]:
        return {"camera": camera}

    def get_image_metrics_and_images(
        self, outputs: dict[str, Any], batch: float
    ) -> tuple[dict[str, float], dict[str, Any]]:
        return {"psnr": batch}, {}


class Pipeline(Img3dPipeline):
    """One without data."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self._model = Model()  # pyright: ignore[reportAttributeAccessIssue]


class Camera:
    """A camera as upstream asks it for its size."""

    height = width = torch.tensor(4)


def test_deviations_are_of_several_photos_only() -> None:
    def measured(*photos: float) -> dict[str, float]:
        loader = [(Camera(), photo) for photo in photos]
        return Pipeline().get_average_image_metrics(loader, "eval", get_std=True)

    two = measured(20.0, 22.0)
    assert (two["psnr"], two["psnr_std"]) == (21, pytest.approx(2**0.5))
    one = measured(20.0)
    assert one["psnr"] == 20 and "psnr_std" not in one
    json.dumps(one, allow_nan=False)
