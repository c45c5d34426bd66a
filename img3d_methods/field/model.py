# SPDX-License-Identifier: Apache-2.0
"""`img3d-nerf`: a radiance field that can be trained on a CPU, with Nerfstudio's samplers, renderers and losses.

A nerfacto small enough for a CPU: a compiled hash grid, one proposal network, small networks. It is a `Model` of its
own because nerfacto builds torch's hash grid (14 to 20 seconds per step) and downloads the LPIPS weights with the
model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.config_utils import to_immutable_dict
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.losses import (
    distortion_loss,
    interlevel_loss,
    scale_gradients_by_distance_squared,
)
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, RGBRenderer
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor
from torch.nn import Parameter

from img3d_methods.base_model import Img3dModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.field.hash_grid_field import DensityField, HashGrid, RadianceField
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.training.presets import PresetName
from img3d_methods.viewing.browser_view import VIEWER_GREY
from img3d_methods.viewing.point_cloud_view import PointCloudView

DENSITY, RGB = FieldHeadNames.DENSITY, FieldHeadNames.RGB
ANNEALED = 1 / 30
"""Fraction of a run during which the proposal weights are annealed (arXiv 2111.12077, eq. 18), as in nerfacto."""
ANNEALING_SLOPE = 10.0
"""Slope of that annealing, as in nerfacto."""
PROPOSAL_WARMUP, PROPOSAL_INTERVAL = 1 / 6, 5.0
"""After this fraction of a run the proposal network is trained only every fifth step, as in nerfacto."""


@dataclass
class Img3dNerfModelConfig(NoSignedDistanceField, ModelConfig):
    """Options of the radiance field."""

    _target: type = field(default_factory=lambda: Img3dNerfModel)
    collider_params: dict[str, float] | None = to_immutable_dict({"near_plane": 0.05, "far_plane": 1000.0})
    """Near and far plane of rays, in world units (cameras are within [-1, 1])."""
    eval_num_rays_per_chunk: int = field(default_factory=lambda: 4096 if torch.cuda.is_available() else 1024)
    """Rays rendered at a time. (On a CPU, larger chunks do not fit the caches: 4096 took nearly twice as long.)"""
    preset: PresetName = "balanced"
    """How much time to spend: sets the length of the run if --max-num-iterations is 0. benchmarks/RESULTS.md lists
    the quality of each preset."""
    num_levels: int = 8
    """Number of grids of the field, from coarse to fine."""
    base_resolution: int = 16
    """Cells along each side of space in the coarsest grid. (Half of them cover the cube [-1, 1]^3.)"""
    finest_resolution: int = 2048
    """Cells along each side of space in the finest grid."""
    log2_table_size: int = 17
    """Base-2 logarithm of the number of entries of each grid."""
    hidden_dim: int = 64
    """Width of the networks."""
    num_proposal_samples: int = 64
    """Samples along each ray for the proposal network."""
    num_samples: int = 32
    """Samples along each ray, placed by the proposal network, from which the colour is computed."""
    interlevel_loss_mult: float = 1.0
    """Weight of the loss that trains the proposal network."""
    distortion_loss_mult: float = 0.002
    """Weight of the distortion loss, which concentrates the density along each ray."""


class Img3dNerfModel(Img3dModel):
    """A radiance field, rendered along rays.

    Depth is the distance along the ray, as in all of Nerfstudio's NeRFs.
    """

    config: Img3dNerfModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False

    def populate_modules(self) -> None:
        super().populate_modules()
        config = self.config
        grid = HashGrid(config.num_levels, config.base_resolution, config.finest_resolution, config.log2_table_size)
        self.field = RadianceField(grid, config.hidden_dim)
        # As nerfacto's last proposal network, with tables a quarter of the size.
        self.proposal = DensityField(
            HashGrid(num_levels=5, base_resolution=16, finest_resolution=256, log2_table_size=15), hidden_dim=16
        )
        self.sampler = ProposalNetworkSampler(
            num_nerf_samples_per_ray=config.num_samples,
            num_proposal_samples_per_ray=(config.num_proposal_samples,),
            num_proposal_network_iterations=1,
            single_jitter=True,
            update_sched=self._proposal_interval,
        )
        behind_objects = self.data_background()
        self.renderer_rgb = RGBRenderer("last_sample" if behind_objects is None else behind_objects)
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer(method="median")
        self.image_metrics = ImageMetrics()
        self.live_view = PointCloudView(self)
        self.max_steps = 30_000
        self.step = 0

    def _proposal_interval(self, step: int) -> float:
        """Number of steps from one update of the proposal network to the next."""
        warm = min(step / (PROPOSAL_WARMUP * self.max_steps), 1.0)
        return max(1.0, warm * PROPOSAL_INTERVAL)

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The hash tables and the networks, which have separate learning rates."""
        named = [*self.field.named_parameters(), *self.proposal.named_parameters()]
        return {
            "tables": [parameter for name, parameter in named if name.endswith("table")],
            "networks": [parameter for name, parameter in named if not name.endswith("table")],
        }

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        callbacks = [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_step),
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self.sampler.step_cb),
        ]
        if (trainer := training_callback_attributes.trainer) is not None:
            self.max_steps = trainer.config.max_num_iterations
            callbacks += self.live_view.training_callbacks()
        return callbacks

    def _before_step(self, step: int) -> None:
        self.step = step
        share = min(step / (ANNEALED * self.max_steps), 1.0)
        self.sampler.set_anneal(ANNEALING_SLOPE * share / ((ANNEALING_SLOPE - 1) * share + 1))

    # ---------------------------------------------------------------------------------- see representation.py

    def asset(self) -> None:
        """None: the colours depend on the viewing direction."""

    def background(self) -> Tensor:
        """The colour that the data set puts behind its objects, or else the viewer's own background."""
        colour = self.renderer_rgb.background_color
        return colour if isinstance(colour, Tensor) else torch.tensor(VIEWER_GREY)

    # ------------------------------------------------------------------------------------------------ rendering

    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders rays.

        Args:
            ray_bundle: Rays of any shape, between their nears and fars.

        Returns:
            rgb `[..., 3]`, accumulation `[..., 1]` and depth `[..., 1]` (the distance along the ray at which half of
            the light is absorbed); in training also the samples and their weights, for the losses.
        """
        assert isinstance(ray_bundle, RayBundle)
        shape, rays = ray_bundle.shape, ray_bundle.flatten()
        samples, weights_list, samples_list = self.sampler(rays, density_fns=[self.proposal])
        density, rgb = self.field(samples.frustums.get_positions(), rays.directions)
        if self.training:  # avoids fog near cameras, where rays are dense (Philip and Deschaintre 2023)
            scaled = scale_gradients_by_distance_squared({DENSITY: density, RGB: rgb}, samples)
            density, rgb = scaled[DENSITY], scaled[RGB]
        weights = samples.get_weights(density)
        with torch.no_grad():
            depth = self.renderer_depth(weights=weights, ray_samples=samples)
        outputs: dict[str, Any] = {
            "rgb": self.renderer_rgb(rgb=rgb, weights=weights).view(*shape, 3),
            "accumulation": self.renderer_accumulation(weights=weights).view(*shape, 1),
            "depth": depth.view(*shape, 1),
        }
        if self.training:
            outputs |= {"weights_list": [*weights_list, weights], "ray_samples_list": [*samples_list, samples]}
        return outputs

    # -------------------------------------------------------------------------------------- losses and metrics

    def _target(self, batch: dict[str, Any]) -> Tensor:
        """The photo's pixels `[..., 3]` in [0, 1]; transparent ones are blended with the background."""
        image = batch["image"].to(self.device)
        return self.renderer_rgb.blend_background(image if image.is_floating_point() else image / 255)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error, plus nerfacto's regularisation losses."""
        losses = {"rgb_loss": torch.nn.functional.mse_loss(outputs["rgb"], self._target(batch))}
        if self.training:
            along_rays = (outputs["weights_list"], outputs["ray_samples_list"])
            losses["interlevel_loss"] = self.config.interlevel_loss_mult * interlevel_loss(*along_rays)
            losses["distortion_loss"] = self.config.distortion_loss_mult * distortion_loss(*along_rays)
        return losses
