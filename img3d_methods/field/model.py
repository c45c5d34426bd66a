# SPDX-License-Identifier: Apache-2.0
"""Radiance fields that are trained on photos: `img3d-ngp` and `img3d-nerf`, which differ only in their options.

A field is a hash grid with two small networks (Müller et al. 2022, arXiv 2201.05989). The kernels of
`img3d_kernels.fields` render the rays of a step and calculate all gradients in one pass. A bounded field lies in a box,
and an occupancy grid tells which cells get samples. An unbounded field contracts all of space, and places samples by
the weights of earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor
from torch.nn import Parameter

from img3d_kernels.fields.block_sampling import block_samples
from img3d_kernels.fields.guided_sampling import Guide, WeightGrid, guided_samples
from img3d_kernels.fields.occupancy_grid import OccupancyGrid
from img3d_kernels.fields.radiance_field import HIDDEN, FieldParameters, FieldSpace, first_weights, has_bfloat16
from img3d_kernels.fields.rays import BlockSamples, Marching, RayEnds, Rays, Samples
from img3d_kernels.fields.surface_samples import surface_normals
from img3d_kernels.fields.volume_rendering import field_loss, march, render
from img3d_kernels.hash_grid import level_resolutions
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_methods.base_model import PlainBackgroundModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.field.datamanager import Img3dNerfDatamanager
from img3d_methods.field.object_box import object_box
from img3d_methods.field.pixel_rays import picture_rays
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.training.presets import PresetName, nerf_preset
from img3d_methods.viewing.browser_view import VIEWER_GREY
from img3d_methods.viewing.point_cloud_view import PointCloudView

FIRST_FEATURES = 1e-4
"""Features are initialised uniformly within this distance of 0, as in the paper."""
FIRST_LOG_DENSITY = -2.0
"""Initial logarithm of the density in a scene 4 units wide. Low density lets rays reach the surfaces."""
SH_DEGREE = 3
"""Degree of the spherical harmonics that encode the viewing direction."""
UPDATED_EVERY = 16
"""Training steps between two updates of the occupancy grid or the weight grid."""
STEPS_IN_BOX = 512
"""Steps of a ray along the box's diagonal. 1,024 cost twice the samples, and 0.5 dB (chair at 800×800, 5,000 steps)."""
FINER_IN_EVALUATION = 2
"""Factor by which steps are shorter in evaluation: 0.4 dB (chair at 800×800, as trained by preset best)."""
LOG2_TABLE_SIZE = 17
"""Base-2 logarithm of the number of entries of each grid of an unbounded field."""
WARM_UP, WARM_UP_COARSENESS = 256, 8
"""Number of training steps before the occupancy grid is used, and the factor by which steps along rays are longer until
then."""
EMPTY = 0.01
"""A cell of the box is empty if the optical thickness of a step in it is below this."""
NORMAL_STEPS = 256
"""A normal is calculated from densities around the point, at the shortest side of the field's space divided by this."""
SHARING_WEIGHT = 1 / 64
"""In evaluation, samples in a row share a colour until they have this weight: up to 0.05 dB less (fox)."""
BLOCK_SIDE = 4
"""Pixels along each side of the blocks that share samples in a picture of an unbounded field."""
LEAST_WEIGHT = 0.01
"""In a picture of an unbounded field, samples are left out that weigh less in the rays that are looked at: a third of
them (fox), which changes PSNR by up to 0.05 dB and raises SSIM."""
STRIP_UNIT = 8
"""A picture is rendered in strips of a multiple of so many rows, itself a multiple of BLOCK_SIDE."""
MIN_RAYS, MAX_RAYS = 128, 16_384
"""Limits of the number of rays in a training step of a bounded field."""
APPEARANCE_PENALTY = 1e-3
"""Weight of the embeddings' mean squared norm. Without it, embeddings explain more than the photos' exposures: held-out
photos, which have no embeddings, lose 1.3 dB (fox)."""
SMOOTHING = 0.9
"""Weight of earlier steps in the running mean of the number of samples per ray."""


@dataclass
class Img3dNerfModelConfig(NoSignedDistanceField, ModelConfig):
    """Options of a radiance field."""

    _target: type = field(default_factory=lambda: Img3dNerfModel)
    enable_collider: bool = False
    """Off: rays begin at `near` and end where the field ends."""
    eval_num_rays_per_chunk: int = 1 << 16
    """Rays rendered at a time."""
    preset: PresetName = "balanced"
    """How much time to spend: sets the length of the run if --max-num-iterations is 0. benchmarks/RESULTS.md lists
    the quality of each preset."""
    bounds: Literal["auto", "unbounded"] = "unbounded"
    """"unbounded": all of space, contracted outside the cube [-1, 1]^3. "auto": a box around the object if the photos
    show it cut out, else as "unbounded"."""
    near: float = 0.05
    """Where rays begin, in world units (cameras are within [-1, 1])."""
    far: float = 1000.0
    """Where rays end, in world units."""
    num_levels: int = 8
    """Number of grids of the field, from coarse to fine."""
    base_resolution: int = 16
    """Cells along each side of space in the coarsest grid."""
    finest_resolution: int = 2048
    """Cells along each side of space in the finest grid."""
    log2_table_size: int = 0
    """Base-2 logarithm of the number of entries of each grid; 0: 17, or the preset's of a bounded field."""
    grid_resolution: int = 128
    """Cells along each side of space in the grid that says where samples are needed."""
    samples_per_step: int = 0
    """Visible samples in a training step of a bounded field; the number of rays is chosen accordingly. 0: the
    preset's."""
    num_samples: int = 48
    """Samples of each ray in unbounded space. 32 are as good on fox, but not on photos all around a table (the bundled
    still life: 18.7 instead of 22.8 dB)."""
    num_bins: int = 128
    """Bins along each ray in unbounded space, whose weights determine where its samples are placed."""
    bfloat16: bool = True
    """Whether the factors of the networks' products are rounded to bfloat16 where the processor has such products (AMX,
    or AVX-512 BF16 of AMD's), which is a little faster."""
    distortion_loss_mult: float = 0.002
    """Weight of the distortion loss, which concentrates the density along each ray."""
    near_scaling: bool = True
    """Whether gradients of samples near cameras are scaled down, so that no fog forms there."""
    appearance: bool = False
    """Whether each photo has an embedding of its own, for photos that differ in exposure. Held-out photos are rendered
    with the mean embedding."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=lambda: CameraOptimizerConfig(mode="off"))
    """Corrections of the camera poses."""


class Img3dNerfModel(PlainBackgroundModel):
    """A radiance field, rendered along rays.

    Depth is the distance along the ray, as in all of Nerfstudio's NeRFs.
    """

    config: Img3dNerfModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False
    steps_in_box = STEPS_IN_BOX
    empty = EMPTY
    box: Float[Tensor, "2 3"]
    """Lower and upper corner of a bounded field's box, in world coordinates."""

    def populate_modules(self) -> None:
        super().populate_modules()
        config = self.config
        self.is_bounded = config.bounds == "auto" and self.data_background() is not None
        self.resolutions = level_resolutions(config.num_levels, config.base_resolution, config.finest_resolution)
        sizes = nerf_preset(config.preset)
        entries = config.num_levels << (
            config.log2_table_size or (sizes.log2_table_size if self.is_bounded else LOG2_TABLE_SIZE)
        )
        # One row per entry: the optimizer skips rows without a gradient.
        self.table = Parameter(torch.empty(entries, 2).uniform_(-FIRST_FEATURES, FIRST_FEATURES))
        self.networks = Parameter(first_weights(config.num_levels))
        self.from_direction = Parameter(first_weights(config.num_levels)[: (SH_DEGREE + 1) ** 2].clone())
        self.appearance = Parameter(torch.zeros(self.num_train_data, HIDDEN)) if config.appearance else None
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        self.register_buffer("box", torch.tensor([[-1.0] * 3, [1.0] * 3]))
        self.grid = (OccupancyGrid if self.is_bounded else WeightGrid)(config.grid_resolution)
        self._bits: Tensor | None = None
        self.samples_per_step = config.samples_per_step or sizes.samples_per_step
        self.samples_of_ray = self.samples_per_step / 1024
        """Running mean of the number of samples per ray in training."""
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
        pipeline = training_callback_attributes.pipeline
        if self.is_bounded and pipeline is not None:
            datamanager: Any = pipeline.datamanager
            assert isinstance(datamanager, Img3dNerfDatamanager)
            self.box.copy_(object_box(datamanager.train_cameras, datamanager.cached_train))

            def choose_rays(step: int) -> None:
                datamanager.num_rays = self.rays_per_step()

            callbacks.append(TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], choose_rays))
        if training_callback_attributes.trainer is not None:
            callbacks += self.live_view.training_callbacks()
        return callbacks

    def _before_step(self, step: int) -> None:
        self.step = step
        if step % UPDATED_EVERY:
            return
        if isinstance(self.grid, WeightGrid):
            self.grid.fade()
        elif step >= WARM_UP:
            self.grid.update(self.parameters_of_field(), self._empty_density(), everywhere=step == WARM_UP)
            self._bits = None

    # ------------------------------------------------------------------------------------------------ the field

    def parameters_of_field(self) -> FieldParameters:
        """The field as the kernels take it."""
        if self.is_bounded:
            (x0, y0, z0), (x1, y1, z1) = self.box.tolist()
            space = FieldSpace((x0, y0, z0), (x1, y1, z1), False, self._occupied(), self.grid.size)
        else:
            space = replace(FieldSpace.unbounded(), grid_size=self.grid.size)
        table = self.table.view(len(self.resolutions), -1, 2)
        # In a smaller space, the same optical thickness takes a higher density.
        width = max(high - low for low, high in zip(space.low, space.high, strict=True))
        bias = FIRST_LOG_DENSITY + float(torch.tensor(4 / width).log())
        return FieldParameters(table, self.networks, self.resolutions, space, bias, self._has_bfloat16())

    def _has_bfloat16(self) -> bool:
        return self.config.bfloat16 and self.table.device.type == "cpu" and has_bfloat16()

    def _occupied(self) -> Tensor | None:
        if self.step < WARM_UP or not isinstance(self.grid, OccupancyGrid):
            return None
        if self._bits is None:
            self._bits = self.grid.bits(self._empty_density())
        return self._bits

    def _step_in_box(self) -> float:
        return float((self.box[1] - self.box[0]).norm()) / self.steps_in_box

    def _empty_density(self) -> float:
        return self.empty / self._step_in_box()

    def marching(self) -> Marching:
        """The steps of rays in a box."""
        if not self.training:
            return Marching(self._step_in_box() / FINER_IN_EVALUATION)
        return Marching(self._step_in_box() * (WARM_UP_COARSENESS if self.step < WARM_UP else 1))

    def _guided(self, parameters: FieldParameters, rays: Rays, offsets: Tensor | None) -> Samples:
        assert isinstance(self.grid, WeightGrid)
        return guided_samples(parameters, rays, self._guide(self.grid), offsets)

    def _guide(self, grid: WeightGrid) -> Guide:
        return Guide(grid.weights, self.config.num_bins, self.config.num_samples)

    def _ends(self, bundle: RayBundle) -> RayEnds:
        nears, fars = (
            torch.full((len(bundle),), end, device=self.device) for end in (self.config.near, self.config.far)
        )
        if bundle.nears is not None and bundle.fars is not None:
            nears, fars = torch.maximum(nears, bundle.nears[:, 0]), torch.minimum(fars, bundle.fars[:, 0])
        return RayEnds(bundle.origins, bundle.directions, nears, fars)

    def _rays(self, bundle: RayBundle) -> Rays:
        """Flat rays, with features of the viewing direction and the photo's embedding (the mean one in evaluation)."""
        features = sh_basis(SH_DEGREE, bundle.directions) @ self.from_direction
        if self.appearance is not None:
            if self.training and bundle.camera_indices is not None:
                features = features + self.appearance[bundle.camera_indices[:, 0]]
            else:
                features = features + self.appearance.mean(dim=0)
        ends = self._ends(bundle)
        return Rays(ends.origins, ends.directions, ends.nears, ends.fars, features)

    # ---------------------------------------------------------------------------------- see representation.py

    def asset(self) -> None:
        """None: the colours depend on the viewing direction."""

    def background(self) -> Float[Tensor, "3"]:
        """The colour behind the data set's objects, or the viewer's background if there is none."""
        color = self.data_background()
        return torch.tensor(VIEWER_GREY, device=self.device) if color is None else color.to(self.device)

    # ------------------------------------------------------------------------------------------------ rendering

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Renders a camera, inside the box if there is one; for the viewer, only what its page does not draw itself."""
        if obb_box is not None:
            return super().get_outputs_for_camera(camera, obb_box)
        with self.live_view.frame(camera):
            return self.picture(picture_rays(camera))

    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders rays; in training, only places their samples.

        Args:
            ray_bundle: Rays of any shape, between their nears and fars, if they have these.

        Returns:
            rgb `[..., 3]` over the background, accumulation `[..., 1]` and depth `[..., 1]`: the distance along the
            ray at which half of the light is absorbed, or where it ends if that never happens; and normals `[..., 3]`
            of the surface there, mapped from [-1, 1] to [0, 1] as ns-export expects them. In training "rays",
            "samples" and "field", which the losses and metrics render.
        """
        assert isinstance(ray_bundle, RayBundle)
        shape, bundle, parameters = ray_bundle.shape, ray_bundle.flatten(), self.parameters_of_field()
        if self.training:
            self.camera_optimizer.apply_to_raybundle(bundle)
            rays, offsets = self._rays(bundle), torch.rand(len(bundle), device=self.device)
            if self.is_bounded:
                samples = march(parameters, rays, replace(self.marching(), visible_only=True), offsets)
                mean = float(samples.counts.float().mean())
                self.samples_of_ray = SMOOTHING * self.samples_of_ray + (1 - SMOOTHING) * mean
            else:
                samples = self._guided(parameters, rays, offsets)
            return {"rays": rays, "samples": samples, "field": parameters}
        with torch.no_grad():
            seen = self._seen(parameters, bundle, None, 0)
        return {name: value.view(*shape, -1) for name, value in seen.items()}

    @torch.no_grad()
    def picture(self, rays: RayBundle) -> dict[str, Tensor]:
        """`get_outputs` of the rays `[H, W]` of one camera, in strips; neighbours in it may share samples."""
        home, (height, width), bundle = rays.origins.device, rays.shape, rays.to(self.device).flatten()
        parameters, blocks = self.parameters_of_field(), None
        if isinstance(self.grid, WeightGrid) and bundle.nears is None:
            ends, guide = self._ends(bundle), self._guide(self.grid)
            blocks = block_samples(parameters, ends, width, BLOCK_SIDE, guide, LEAST_WEIGHT)
        rows = max(1, self.config.eval_num_rays_per_chunk // (STRIP_UNIT * width)) * STRIP_UNIT
        strips = []
        for top in range(0, height, rows):
            below = min(top + rows, height)
            along = blocks and blocks.in_rows(top, below)
            strips.append(self._seen(parameters, bundle[top * width : below * width], along, width))
        return {
            name: torch.cat([strip[name] for strip in strips]).view(height, width, -1).to(home) for name in strips[0]
        }

    def _seen(
        self, parameters: FieldParameters, bundle: RayBundle, along: BlockSamples | None, width: int
    ) -> dict[str, Tensor]:
        """What rays see: the outputs `[R, C]` in evaluation."""
        rays = self._rays(bundle)
        if along is not None:
            picture = render(parameters, rays, along, SHARING_WEIGHT)
        elif self.is_bounded:
            picture = render(parameters, rays, self.marching(), SHARING_WEIGHT, width)
        else:
            picture = render(parameters, rays, self._guided(parameters, rays, None), SHARING_WEIGHT, width)
        side = min(high - low for low, high in zip(parameters.space.low, parameters.space.high, strict=True))
        facing = surface_normals(parameters, rays, picture.depth, side / NORMAL_STEPS)
        return {
            "rgb": picture.rgb + (1 - picture.accumulation[:, None]) * self.background(),
            "accumulation": picture.accumulation[:, None],
            "depth": torch.where(picture.depth > 0, picture.depth, rays.fars)[:, None],
            "normals": 0.5 + 0.5 * facing,
        }

    def rays_per_step(self) -> int:
        """Rays in the next training step of a bounded field, so that it has about `samples_per_step` samples."""
        return int(min(max(self.samples_per_step / max(self.samples_of_ray, 1.0), MIN_RAYS), MAX_RAYS))

    # -------------------------------------------------------------------------------------- losses and metrics

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error plus the distortion loss; the penalties of camera poses and embeddings. Images with alpha
        are compared over random backgrounds."""
        losses = {"rgb_loss": self._compared(outputs, batch)["loss"]}
        self.camera_optimizer.get_loss_dict(losses)
        if self.appearance is not None:
            penalty = self.appearance.square().sum(dim=1).mean()
            losses["appearance_regularizer"] = APPEARANCE_PENALTY * penalty
        return losses

    def _compared(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """Renders the rays of a training step once, and adds "rgb", "target" and "loss" to the outputs."""
        if "loss" in outputs:
            return outputs
        image, rays = batch["image"].to(self.device), outputs["rays"]
        target, backgrounds = image[:, :3], torch.rand(len(rays), 3, device=self.device)
        if image.shape[1] == 4:
            target = target * image[:, 3:] + (1 - image[:, 3:]) * backgrounds
        elif self.data_background() is not None:  # the photos' background is this colour
            backgrounds = self.background().expand(len(rays), 3)
        loss, rgb, _ = field_loss(
            outputs["field"],
            rays,
            outputs["samples"],
            target,
            backgrounds,
            self.config.distortion_loss_mult,
            self.config.near_scaling,
            self.grid.weights if isinstance(self.grid, WeightGrid) else None,
        )
        outputs |= {"loss": loss, "rgb": rgb, "target": target}
        return outputs

    def photos_have_own_colors(self) -> bool:
        """Whether photos have embeddings."""
        return self.appearance is not None

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of a batch; in training over random backgrounds."""
        if "samples" not in outputs:
            return super().get_metrics_dict(outputs, batch)
        compared = self._compared(outputs, batch)
        metrics = {"psnr": self.image_metrics.psnr(compared["rgb"].clamp(0, 1), compared["target"])}
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics
