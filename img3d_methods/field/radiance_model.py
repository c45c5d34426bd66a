# SPDX-License-Identifier: Apache-2.0
"""Radiance fields that are trained on photos: `img3d-ngp` and `img3d-nerf`, which differ in their options only.

A hash grid and two small networks (Müller et al. 2022, arXiv 2201.05989), samples where an occupancy grid has
something, and the kernels of `img3d_kernels.fields`, which render the rays of a step and calculate all gradients in one
pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor
from torch.nn import Parameter

from img3d_kernels.fields.occupancy import OccupancyGrid
from img3d_kernels.fields.radiance_field import HIDDEN, FieldParameters, FieldSpace, first_weights
from img3d_kernels.fields.rays import Marching, Rays
from img3d_kernels.fields.volume_rendering import field_loss, march, render
from img3d_kernels.hash_grid import level_resolutions
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_methods.base_model import PlainBackgroundModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.training.presets import PresetName
from img3d_methods.viewing.browser_view import VIEWER_GREY
from img3d_methods.viewing.point_cloud_view import PointCloudView

FIRST_FEATURES = 1e-4
"""Features are initialised uniformly within this distance of 0, as in the paper."""
SH_DEGREE = 3
"""Degree of the spherical harmonics that encode the viewing direction."""
UPDATED_EVERY = 16
"""Training steps between two updates of the occupancy grid."""
STEPS_IN_BOX = 1024
"""Steps of a ray along a box's diagonal."""
WARM_UP, WARM_UP_COARSENESS = 256, 8
"""Training steps in which nothing is known to be empty, and how much longer samples are in them."""
MIN_RAYS, MAX_RAYS = 128, 16_384
"""Rays of a training step."""
FAR = 1000.0
"""Where rays end, in world units."""
SMOOTHING = 0.9
"""Weight of earlier steps in the mean number of samples of a ray."""


@dataclass
class Img3dRadianceModelConfig(NoSignedDistanceField, ModelConfig):
    """Options of a radiance field."""

    _target: type = field(default_factory=lambda: Img3dRadianceModel)
    enable_collider: bool = False
    """Off: rays begin at `near` and end where the field ends."""
    eval_num_rays_per_chunk: int = 1 << 16
    """Rays rendered at a time."""
    preset: PresetName = "balanced"
    """How much time to spend: sets the length of the run if --max-num-iterations is 0. benchmarks/RESULTS.md lists
    the quality of each preset."""
    bounds: Literal["auto", "unbounded"] = "unbounded"
    """"unbounded": all of space, contracted outside the cube [-1, 1]^3. "auto": for objects on a plain background only
    the box around what all cameras look at."""
    near: float = 0.05
    """Where rays begin, in world units (cameras are within [-1, 1])."""
    num_levels: int = 8
    """Number of grids of the field, from coarse to fine."""
    base_resolution: int = 16
    """Cells along each side of space in the coarsest grid."""
    finest_resolution: int = 2048
    """Cells along each side of space in the finest grid."""
    log2_table_size: int = 17
    """Base-2 logarithm of the number of entries of each grid."""
    occupancy_resolution: int = 128
    """Cells along each side of space for which is known whether they are empty."""
    cone: float = 1 / 256
    """Length of a step, as a share of the distance, where space is unbounded."""
    samples_per_step: int = 1 << 15
    """Samples of a training step, of as many rays as have that many."""
    distortion_loss_mult: float = 0.002
    """Weight of the distortion loss, which concentrates the density along each ray."""
    near_scaling: bool = True
    """Whether gradients of samples near cameras are scaled down, so that no fog forms there."""
    appearance: bool = False
    """Whether each photo has an embedding of its own, for photos that differ in exposure."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=CameraOptimizerConfig)
    """Corrections of the camera poses."""


class Img3dRadianceModel(PlainBackgroundModel):
    """A radiance field, rendered along rays.

    Depth is the distance along the ray, as in all of Nerfstudio's NeRFs.
    """

    config: Img3dRadianceModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False

    def populate_modules(self) -> None:
        super().populate_modules()
        config = self.config
        self.resolutions = level_resolutions(config.num_levels, config.base_resolution, config.finest_resolution)
        entries = config.num_levels << config.log2_table_size
        # One row per entry: the optimizer skips rows without a gradient.
        self.table = Parameter(torch.empty(entries, 2).uniform_(-FIRST_FEATURES, FIRST_FEATURES))
        self.networks = Parameter(first_weights(config.num_levels))
        self.from_direction = Parameter(first_weights(config.num_levels)[: (SH_DEGREE + 1) ** 2].clone())
        self.appearance = Parameter(torch.zeros(self.num_train_data, HIDDEN)) if config.appearance else None
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        self.occupancy = OccupancyGrid(config.occupancy_resolution)
        self.register_buffer("box", torch.tensor([[-1.0] * 3, [1.0] * 3]))
        self.is_bounded = config.bounds == "auto" and self.data_background() is not None
        self.samples_of_ray = float(config.samples_per_step) / 1024
        """Mean over recent training steps."""
        self.image_metrics = ImageMetrics()
        self.live_view = PointCloudView(self)
        self.step = 0

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The hash tables, the networks and the camera poses, which have separate learning rates."""
        groups = {"tables": [self.table], "networks": [self.networks, self.from_direction]}
        if self.appearance is not None:
            groups["networks"].append(self.appearance)
        self.camera_optimizer.get_param_groups(groups)
        return groups

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        callbacks = [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_step)]
        if training_callback_attributes.trainer is not None:
            callbacks += self.live_view.training_callbacks()
        return callbacks

    def _before_step(self, step: int) -> None:
        self.step = step
        if step >= WARM_UP and step % UPDATED_EVERY == 0:
            self.occupancy.update(self.parameters_of_field(), self.marching(), everywhere=step == WARM_UP)

    def place_box(self, low: Float[Tensor, "3"], high: Float[Tensor, "3"]) -> None:
        """Sets the box in which everything is, for bounded scenes."""
        self.box.copy_(torch.stack([low, high]))

    # ------------------------------------------------------------------------------------------------ the field

    def parameters_of_field(self) -> FieldParameters:
        """The field as the kernels take it."""
        known = self.step >= WARM_UP
        low, high = ((-2.0,) * 3, (2.0,) * 3) if not self.is_bounded else map(tuple, self.box.tolist())
        space = FieldSpace(
            low, high, not self.is_bounded, self.occupancy.bits if known else None, self.occupancy.size
        )
        table = self.table.view(len(self.resolutions), -1, 2)
        return FieldParameters(table, self.networks, self.resolutions, space, self._density_bias())

    def _density_bias(self) -> float:
        """Low density at the beginning lets rays reach the surfaces. Its scale is that of the box."""
        return -2.0 + (0.0 if not self.is_bounded else -float((self.box[1] - self.box[0]).max().log()) + 1.4)

    def marching(self) -> Marching:
        """The steps of rays."""
        coarseness = WARM_UP_COARSENESS if self.step < WARM_UP else 1
        if self.is_bounded:
            return Marching(coarseness * float((self.box[1] - self.box[0]).norm()) / STEPS_IN_BOX)
        cone = self.config.cone * coarseness
        return Marching(cone, cone)  # up to distance 1, which is where the cameras are, steps have one length

    def _rays(self, bundle: RayBundle) -> Rays:
        """Flat rays with what depends on the direction and the photo."""
        features = sh_basis(SH_DEGREE, bundle.directions) @ self.from_direction
        if self.appearance is not None:
            if self.training and bundle.camera_indices is not None:
                features = features + self.appearance[bundle.camera_indices[:, 0]]
            else:
                features = features + self.appearance.mean(dim=0)
        ends = torch.full((len(bundle), 2), FAR, device=features.device)
        ends[:, 0] = self.config.near
        if bundle.nears is not None and bundle.fars is not None:
            ends = torch.cat([bundle.nears.clamp_min(self.config.near), bundle.fars.clamp_max(FAR)], dim=1)
        return Rays(bundle.origins, bundle.directions, features, ends[:, 0], ends[:, 1])

    # ---------------------------------------------------------------------------------- see representation.py

    def asset(self) -> None:
        """None: the colours depend on the viewing direction."""

    def background(self) -> Float[Tensor, "3"]:
        """The colour that the data set puts behind its objects, or else the viewer's own background."""
        color = self.data_background()
        return torch.tensor(VIEWER_GREY, device=self.device) if color is None else color.to(self.device)

    # ------------------------------------------------------------------------------------------------ rendering

    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders rays; in training, places their samples, and `get_loss_dict` renders them.

        Args:
            ray_bundle: Rays of any shape, between their nears and fars, if they have these.

        Returns:
            rgb `[..., 3]` over the background, accumulation `[..., 1]` and depth `[..., 1]`: the distance along the
            ray at which half of the light is absorbed, or where it ends if that never happens. In training "rays",
            "samples" and the "field".
        """
        assert isinstance(ray_bundle, RayBundle)
        shape, bundle, parameters = ray_bundle.shape, ray_bundle.flatten(), self.parameters_of_field()
        if self.training:
            self.camera_optimizer.apply_to_raybundle(bundle)
            rays = self._rays(bundle)
            samples = march(parameters, rays, self.marching(), torch.rand(len(rays), device=self.device))
            mean = float(samples.counts.float().mean())
            self.samples_of_ray = SMOOTHING * self.samples_of_ray + (1 - SMOOTHING) * mean
            return {"rays": rays, "samples": samples, "field": parameters}
        with torch.no_grad():
            rays = self._rays(bundle)
            picture = render(parameters, rays, self.marching())
        rgb = picture.rgb + (1 - picture.accumulation[:, None]) * self.background()
        return {
            "rgb": rgb.view(*shape, 3),
            "accumulation": picture.accumulation.view(*shape, 1),
            "depth": torch.where(picture.depth > 0, picture.depth, rays.fars).view(*shape, 1),
        }

    def rays_per_step(self) -> int:
        """Rays of the next training step, so that it has about as many samples as the last one."""
        return int(min(max(self.config.samples_per_step / max(self.samples_of_ray, 1.0), MIN_RAYS), MAX_RAYS))

    # -------------------------------------------------------------------------------------- losses and metrics

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error over random backgrounds, and the distortion loss. Adds "rgb" and "target" to the outputs."""
        image, rays = batch["image"].to(self.device), outputs["rays"]
        target = image[:, :3]
        if image.shape[1] == 3 and self.data_background() is not None:
            backgrounds = self.background().expand(len(rays), 3)
        else:
            backgrounds = torch.rand(len(rays), 3, device=self.device)
        if image.shape[1] == 4:
            target = target * image[:, 3:] + (1 - image[:, 3:]) * backgrounds
        loss, rgb, distortion = field_loss(
            outputs["field"],
            rays,
            outputs["samples"],
            target,
            backgrounds,
            self.config.distortion_loss_mult,
            self.config.near_scaling,
        )
        outputs |= {"rgb": rgb, "target": target, "distortion": distortion}
        losses = {"rgb_loss": loss}
        self.camera_optimizer.get_loss_dict(losses)
        return losses

    @torch.no_grad()
    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of a training batch over the backgrounds it was rendered with."""
        metrics: dict[str, Any] = {
            "psnr": self.image_metrics.psnr(outputs["rgb"].clamp(0, 1), outputs["target"]),
            "distortion": outputs["distortion"],
        }
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics
