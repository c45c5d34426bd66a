# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipelines of Gaussians that a guidance shapes; they define the loss of each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.random_views import directions
from img3d_generators.guidance.rows import Shows, guidance_row
from img3d_methods.distilled.guided_pipeline import GuidedPipeline, GuidedPipelineConfig
from img3d_methods.generated.generated_views import read_given_views
from img3d_methods.splat.initial_gaussians import initial_gaussians
from img3d_methods.splat.pipeline import Img3dSplatPipeline, Img3dSplatPipelineConfig

NUM_INITIAL = 5000
INITIAL_RADIUS = 0.25
"""Radius of the initial ball of Gaussians, relative to the cameras' distance: DreamGaussian's 0.5 at distance 2."""
INITIAL_OPACITY = 0.1
WHITE, BLACK = 1.0, 0.0


@dataclass
class Img3dDistilledPipelineConfig(GuidedPipelineConfig, Img3dSplatPipelineConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The guidance of a text, and the Gaussians that it shapes."""

    _target: type = field(default_factory=lambda: Img3dDistilledPipeline)


@dataclass
class Img3dZero123PipelineConfig(Img3dDistilledPipelineConfig):
    """The guidance of an image, and the model that it shapes."""

    shows: ClassVar[Shows] = "image"
    given_weight: float = 10_000.0
    """Weight of the mean squared difference to the image; it grows evenly from 0 to this, as in DreamGaussian."""
    mask_weight: float = 1_000.0
    """The same for its opacity."""


class Img3dDistilledPipeline(GuidedPipeline, Img3dSplatPipeline):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Shapes the Gaussians of an `Img3dSplatModel`."""

    config: Img3dDistilledPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    _given: tuple[Cameras, Float[Tensor, "S S 3"], Float[Tensor, "S S 1"]] | None = None
    """The image's camera, its colours on white and its opacity."""

    def _begin(self) -> None:
        self.model.place_gaussians(ball_of_gaussians(self.config.seed, self.model.config.sh_degree))
        dataset = self.datamanager.train_dataset
        assert dataset is not None
        image = None
        if guidance_row(self.config.guidance).shows == "image":
            views, image, _ = read_given_views(Path(dataset.metadata["views_folder"]))
            assert views.alphas is not None
            colors, alpha = (part[0].permute(1, 2, 0).to(self.device) for part in (views.images, views.alphas))
            self._given = self.datamanager.train_cameras[0:1], colors, alpha
        self._load_guidance(image)

    def _step(
        self, guidance: ScoreDistillation, step: int, progress: float
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        camera, batch = self.datamanager.next_train(step)
        losses: dict[str, Tensor] = {}
        metrics: dict[str, Any] = {"gaussian_count": self.model.num_points}
        if self._given is not None:
            losses, metrics["psnr"] = self._given_losses(progress)
        outputs = self._model(camera)
        is_white = bool(torch.rand((), generator=self.datamanager.draws) < 0.5)
        picture = on_background(outputs, WHITE if is_white else BLACK)
        losses["sds"] = guidance.loss(picture.permute(2, 0, 1)[None], batch["angles"].to(self.device), step, progress)
        return outputs, losses, metrics

    def _given_losses(self, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """The differences to the image, and the PSNR."""
        config: Any = self.config  # of the pipeline that has an image
        assert self._given is not None
        camera, colors, alpha = self._given
        outputs = self._model(camera)
        size = outputs["rgb"].shape[0]
        colors, alpha = (smaller(part, size) for part in (colors, alpha))
        error = (outputs["rgb"] - colors).square().mean()
        opacity_error = (outputs["accumulation"] - alpha).square().mean()
        losses = {
            "given": config.given_weight * progress * error,
            "mask": config.mask_weight * progress * opacity_error,
        }
        return losses, self.model.image_metrics.psnr(outputs["rgb"].detach().clamp(0, 1), colors)


def ball_of_gaussians(seed: int, sh_degree: int) -> dict[str, Tensor]:
    """The initial Gaussians: evenly distributed in a ball, in random dark colours, nearly transparent."""
    generator = torch.Generator().manual_seed(seed)
    around = directions(
        torch.rad2deg(torch.asin(2 * torch.rand(NUM_INITIAL, generator=generator) - 1)),
        360 * torch.rand(NUM_INITIAL, generator=generator),
    )
    radii = INITIAL_RADIUS * torch.rand(NUM_INITIAL, 1, generator=generator) ** (1 / 3)
    colors = 0.5 + torch.rand(NUM_INITIAL, 3, generator=generator) / 255
    return initial_gaussians(radii * around, colors, sh_degree, INITIAL_OPACITY, 1.0, NUM_INITIAL, seed)


def on_background(outputs: dict[str, Tensor], grey: float) -> Float[Tensor, "H W 3"]:
    """A render on another background than the model's."""
    return outputs["rgb"] + (1 - outputs["accumulation"]) * (grey - outputs["background"])


def smaller(picture: Float[Tensor, "H W C"], size: int) -> Float[Tensor, "S S C"]:
    """A square picture in the size of a render."""
    if picture.shape[0] == size:
        return picture
    planes = picture.permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(planes, size=(size, size), mode="area")[0].permute(1, 2, 0)
