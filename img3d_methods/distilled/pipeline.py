# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipelines of objects that a guidance shapes: what each step's loss is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.random_views import directions
from img3d_generators.guidance.rows import Shows, guidance_row
from img3d_methods.distilled.datamanager import Img3dRandomViewsDatamanager, Img3dRandomViewsDatamanagerConfig
from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.distilled.options import GuidedPipelineOptions, absolute_paths
from img3d_methods.generated.generated_views import read_given_views
from img3d_methods.splat.initial_gaussians import initial_gaussians
from img3d_methods.splat.pipeline import Img3dSplatPipeline, Img3dSplatPipelineConfig
from img3d_methods.training.run_config import absolute

NUM_INITIAL = 5000
INITIAL_RADIUS = 0.25
"""Of the ball of the first Gaussians, relative to the cameras' distance: DreamGaussian's 0.5 from 2."""
INITIAL_OPACITY = 0.1
WHITE, BLACK = 1.0, 0.0


@dataclass
class Img3dDistilledPipelineConfig(GuidedPipelineOptions, Img3dSplatPipelineConfig):
    """The guidance of a text, and the model that it shapes."""

    _target: type = field(default_factory=lambda: Img3dDistilledPipeline)
    datamanager: Img3dRandomViewsDatamanagerConfig = field(default_factory=Img3dRandomViewsDatamanagerConfig)  # pyright: ignore[reportIncompatibleVariableOverride]
    """From where training looks at the object."""

    def prepare(self, run: str) -> None:
        """Checks the options, and tells the data what it has to know of them.

        Args:
            run: Tells runs apart.

        Raises:
            InputError: An option is missing or out of range, or weights are missing.
        """
        absolute_paths(self, absolute)
        row = self.check()
        self.datamanager.seed = self.seed
        parser: Any = self.datamanager.dataparser
        parser.guidance, parser.elevation = row.name, self.elevation if row.shows == "image" else 0.0
        parser.run = "" if row.shows == "image" else run


@dataclass
class Img3dZero123PipelineConfig(Img3dDistilledPipelineConfig):
    """The guidance of an image, and the model that it shapes."""

    shows: ClassVar[Shows] = "image"
    given_weight: float = 10_000.0
    """Weight of the mean squared difference to the image; it grows evenly from 0 to this, as in DreamGaussian."""
    mask_weight: float = 1_000.0
    """Weight of the same for its opacity."""


class Img3dDistilledPipeline(Img3dSplatPipeline):
    """Shapes the Gaussians of an `Img3dSplatModel`."""

    config: Img3dDistilledPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    datamanager: Img3dRandomViewsDatamanager  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        config: Img3dDistilledPipelineConfig,
        device: str,
        test_mode: Literal["test", "val", "inference"] = "val",
        **kwargs: Any,
    ) -> None:
        super().__init__(config, device, test_mode, **kwargs)
        self.num_steps = 1
        """Length of the run; the trainer sets it."""
        self._guidance: ScoreDistillation | None = None
        self._given: tuple[Cameras, Float[Tensor, "S S 3"], Float[Tensor, "S S 1"]] | None = None
        if test_mode == "val":
            self.model.place_gaussians(ball_of_gaussians(config.seed, self.model.config.sh_degree))
            with failing_in_one_line():
                self._prepare_guidance()

    def _prepare_guidance(self) -> None:
        config, row = self.config, guidance_row(self.config.guidance)
        dataset = self.datamanager.train_dataset
        assert dataset is not None
        image = None
        if row.shows == "image":
            views, image, _ = read_given_views(Path(dataset.metadata["views_folder"]))
            assert views.alphas is not None
            colors, alpha = (part[0].permute(1, 2, 0).to(self.device) for part in (views.images, views.alphas))
            self._given = self.datamanager.train_cameras[0:1], colors, alpha
        self._guidance = config.made_guidance(row, image, torch.device(self.device))

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Renders from a random side, and lets the guidance say what should be there."""
        with failing_in_one_line():
            return self._step(step)

    def _step(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        guidance = self._guidance
        assert guidance is not None
        progress = step / max(1, self.num_steps)
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


def ball_of_gaussians(seed: int, sh_degree: int) -> dict[str, Tensor]:
    """The first Gaussians: evenly spread in a ball, in random dark colours, nearly transparent."""
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
