# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline of a radiance field that a guidance shapes: DreamFusion's recipe (arXiv 2209.14988)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.rows import GuidanceRow
from img3d_kernels.fields.differentiable_picture import differentiable_picture
from img3d_methods.cached_views import MAX_VIEW_SIZE, MIN_VIEW_SIZE
from img3d_methods.distilled.field_model import Img3dShapedFieldModel
from img3d_methods.distilled.guided_pipeline import GuidedPipeline, GuidedPipelineConfig
from img3d_methods.distilled.lighting import lit_picture
from img3d_methods.distilled.pipeline import BLACK, WHITE

NORMAL_DISTANCE = 0.01
"""Distance from a sample to the densities from which its normal is calculated, relative to the cameras' distance."""


@dataclass
class Img3dShapedFieldPipelineConfig(GuidedPipelineConfig):
    """The guidance of a text, and the field that it shapes. The defaults are those of threestudio's DreamFusion."""

    _target: type = field(default_factory=lambda: Img3dShapedFieldPipeline)
    render_size: int = 64
    """Width and height of the renders that the guidance sees, in pixels. The run's own views are larger."""
    background: Literal["learned", "random", "plain"] = "learned"
    """The background of these renders: "learned", the colours of a small network, which the guidance shapes too;
    "random", one random colour; or "plain", white or black."""
    unlit_part: float = 0.2
    """Part of the run before the first render with lighting."""
    lit_share: float = 0.75
    """Share of the later renders that are lit by a lamp near the camera."""
    textureless_share: float = 0.5
    """Share of the lit renders in which everything is white, so that the guidance sees only the shape."""
    ambient: float = 0.1
    """Brightness where the lamp does not shine."""
    orientation_weight: float = 1000.0
    """Weight of the loss of normals that look away from the camera, in renders in light. It grows evenly from a
    hundredth to this, up to the middle of the run."""
    sparsity_weight: float = 1.0
    """Weight of the opacity's mean, which keeps fog away; beside the guidance's loss, a sum over a picture."""
    opaque_weight: float = 0.0
    """Weight of the opacity's mean binary entropy, which is 0 for opacities of 0 and 1."""

    def prepare(self, run: str) -> GuidanceRow:
        """See `GuidedPipelineConfig`."""
        row = super().prepare(run)
        if not MIN_VIEW_SIZE <= self.render_size <= MAX_VIEW_SIZE:
            limits = f"{MIN_VIEW_SIZE} to {MAX_VIEW_SIZE}"
            raise InputError(f"--pipeline.render-size is {self.render_size}: it has to be {limits}")
        for name in ("unlit_part", "lit_share", "textureless_share", "ambient"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise InputError(f"--pipeline.{option} is {getattr(self, name):g}: it has to be 0 to 1")
        if min(self.orientation_weight, self.sparsity_weight, self.opaque_weight) < 0:
            raise InputError("--pipeline.orientation-weight, sparsity-weight and opaque-weight cannot be negative")
        if row.shows == "mesh":  # its renders are not lit, on white and on black
            self.lit_share, self.background = 0.0, "plain"
        return row


class Img3dShapedFieldPipeline(GuidedPipeline):
    """Shapes the field of an `Img3dShapedFieldModel`."""

    config: Img3dShapedFieldPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def model(self) -> Img3dShapedFieldModel:
        """The model itself, also in one of several processes."""
        return cast(Img3dShapedFieldModel, super().model)

    def _step(
        self, guidance: ScoreDistillation, step: int, progress: float
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        config, draws, size = self.config, self.datamanager.draws, self.config.render_size
        drawn, batch = self.datamanager.next_train(step)
        camera = cast(Cameras, drawn)
        camera.rescale_output_resolution(size / int(camera.height[0]), scale_rounding_mode="round")
        parameters, rays, samples = self.model.samples_along(camera, draws)
        losses: dict[str, Tensor] = {}
        if progress >= config.unlit_part and self._decides(config.lit_share):
            lit = lit_picture(
                parameters,
                rays,
                samples,
                batch["light"].to(self.device),
                config.ambient,
                self._decides(config.textureless_share),
                NORMAL_DISTANCE,
            )
            rgb, opacity = lit.rgb, lit.opacity
            losses["orientation"] = config.orientation_weight * growing(progress) * lit.orientation
        else:
            rgb, opacity = differentiable_picture(parameters, rays, samples)
        rgb = rgb + (1 - opacity) * self._background(rays.directions)
        picture = rgb.view(1, size, size, 3).permute(0, 3, 1, 2)
        losses["sds"] = guidance.loss(picture, batch["angles"].to(self.device), step, progress)
        if config.sparsity_weight > 0:
            losses["sparsity"] = config.sparsity_weight * mean_opacity(opacity)
        if config.opaque_weight > 0:
            losses["opaque"] = config.opaque_weight * opacity_entropy(opacity)
        return {"rgb": rgb}, losses, {"samples_per_ray": samples.counts.float().mean()}

    def _decides(self, share: float) -> bool:
        return bool(torch.rand((), generator=self.datamanager.draws) < share)

    def _background(self, directions: Float[Tensor, "R 3"]) -> Float[Tensor, "#R 3"]:
        kind = self.config.background
        if kind == "learned":
            return self.model.colors_behind(directions)
        if kind == "random":
            return torch.rand(1, 3, generator=self.datamanager.draws).to(self.device)
        return torch.full((1, 3), WHITE if self._decides(0.5) else BLACK, device=self.device)


def growing(progress: float) -> float:
    """A weight that grows evenly from 0.01 to 1 in the first half of the run."""
    return 0.01 + 0.99 * min(1.0, 2 * progress)


def mean_opacity(opacity: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
    """The mean over rays, rounded near 0 so that its gradient is finite everywhere: sqrt(opacity² + 0.01)."""
    return (opacity.square() + 0.01).sqrt().mean()


def opacity_entropy(opacity: Float[Tensor, "R 1"]) -> Float[Tensor, ""]:
    """The mean binary entropy over rays, in nats."""
    opacity = opacity.clamp(1e-3, 1 - 1e-3)
    return torch.nn.functional.binary_cross_entropy(opacity, opacity)
