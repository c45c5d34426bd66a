# SPDX-License-Identifier: Apache-2.0
"""The radiance field that a guidance shapes: that of `img3d-nerf` in a box, with one colour for all directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from torch import Tensor
from torch.nn import Parameter

from img3d_base.errors import InputError
from img3d_kernels.fields.occupancy_grid import OccupancyGrid
from img3d_kernels.fields.radiance_field import GEOMETRY, FieldParameters
from img3d_kernels.fields.rays import Marching, Rays, Samples
from img3d_kernels.fields.volume_rendering import march
from img3d_kernels.spherical_harmonics import sh_basis
from img3d_methods.field.model import SH_DEGREE, UPDATED_EVERY, Img3dNerfModel, Img3dNerfModelConfig

HALF = 0.5
"""Distance from the middle of the box to its sides, relative to the cameras' distance."""
STEPS_IN_BOX = 192
"""Steps of a ray along the box's diagonal: as far apart as pixels of a render of 100 x 100."""
EMPTY = 0.001
"""Optical thickness of a step below which a cell counts as empty; less than for photos, since the object has to be able
to grow."""
BLOB_PEAK, BLOB_RADIUS = 10.0, 0.286
"""Highest density and radius of the initial blob: threestudio's, whose cameras have a mean distance of 1.75."""
BLOB_UNIT = 1 / 1.75
MIN_LOG_DENSITY = -6.0
"""Minimum logarithm of the initial density."""
PASSED_ON = 4.0
"""Weight of the initial density in the networks; its features are smaller by this factor."""


@dataclass
class Img3dShapedFieldModelConfig(Img3dNerfModelConfig):
    """Options of a field that a guidance shapes."""

    _target: type = field(default_factory=lambda: Img3dShapedFieldModel)
    bounds: Literal["auto", "unbounded"] = "auto"
    finest_resolution: int = 512
    log2_table_size: int = 17
    grid_resolution: int = 64
    bfloat16: bool = False
    """Off: torch calculates a part of the gradients, and would only round."""


class Img3dShapedFieldModel(Img3dNerfModel):
    """A field in the cube around the origin that all cameras of a guidance see.

    It begins as a blob: density is highest in the middle and falls evenly on a logarithmic scale, and everything is
    grey.
    """

    config: Img3dShapedFieldModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    grid: OccupancyGrid  # pyright: ignore[reportIncompatibleVariableOverride]
    steps_in_box = STEPS_IN_BOX
    empty = EMPTY

    def populate_modules(self) -> None:
        super().populate_modules()
        self.is_bounded, self.grid = True, OccupancyGrid(self.config.grid_resolution)
        self.box.copy_(torch.tensor([[-HALF] * 3, [HALF] * 3]))
        self.from_direction.data.zero_()
        self.from_direction.requires_grad_(False)
        self.behind = torch.nn.Sequential(
            torch.nn.Linear((SH_DEGREE + 1) ** 2, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3), torch.nn.Sigmoid()
        )
        """Colours of the background, for training only."""
        self._begin_as_blob()

    @torch.no_grad()
    def _begin_as_blob(self) -> None:
        """Writes the blob to the corners of the coarsest grid, and lets the density network pass it on as it is."""
        levels, side = len(self.resolutions), self.resolutions[0] + 1
        coarsest = self.table.view(levels, -1, 2)[0]
        if side**3 > len(coarsest):
            raise InputError("--pipeline.model.log2-table-size is too small for --pipeline.model.base-resolution")
        axis = torch.linspace(-HALF, HALF, side)
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        radii = (x.square() + y.square() + z.square()).sqrt().flatten()
        density = F.softplus(BLOB_PEAK * (1 - radii / BLOB_RADIUS)) / BLOB_UNIT
        log_density = density.log().clamp_min(MIN_LOG_DENSITY) - self.parameters_of_field().density_bias
        coarsest[: side**3, 0] = log_density / PASSED_ON
        # One hidden unit passes on what is positive, another one what is negative.
        self.networks[0] = 0
        self.networks[0, :2] = torch.tensor([1.0, -1.0])
        self.networks[2 * levels : 2 * levels + GEOMETRY, :2] = 0
        self.networks[2 * levels, :2] = torch.tensor([PASSED_ON, -PASSED_ON])

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The hash tables, the networks and the background, which have separate learning rates."""
        return {"tables": [self.table], "networks": [self.networks], "background": list(self.behind.parameters())}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        return [
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_step),
            *self.live_view.training_callbacks(),
        ]

    def _before_step(self, step: int) -> None:
        self.step = step
        if step % UPDATED_EVERY == 0:
            self.grid.update(self.parameters_of_field(), self._empty_density(), everywhere=step == 0)
            self._bits = None

    # ------------------------------------------------------------------------------------------------ the field

    def _occupied(self) -> Tensor | None:
        """The cells that are not empty; all of them before the first step."""
        if self._bits is None and self.grid.density.any():
            self._bits = self.grid.bits(self._empty_density())
        return self._bits

    def marching(self) -> Marching:
        return Marching(self._step_in_box())

    # ------------------------------------------------------------------------------------------------ rendering

    def samples_along(self, camera: Cameras, draws: torch.Generator) -> tuple[FieldParameters, Rays, Samples]:
        """The field, the rays of a camera's pixels, and where samples lie along them.

        Args:
            camera: One camera, shape `[1]`.
            draws: Source of the random shifts of the samples, on the CPU.
        """
        rays = self._rays(camera.generate_rays(camera_indices=0, keep_shape=True).flatten())
        parameters, offsets = self.parameters_of_field(), torch.rand(len(rays), generator=draws).to(self.device)
        return parameters, rays, march(parameters, rays, self.marching(), offsets)

    def colors_behind(self, directions: Float[Tensor, "R 3"]) -> Float[Tensor, "R 3"]:
        """The colours of the learned background in these directions."""
        return self.behind(sh_basis(SH_DEGREE, directions))

    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders rays, or a camera `[1]`, without gradients; see `Img3dNerfModel`."""
        if isinstance(ray_bundle, Cameras):
            return self.get_outputs_for_camera_ray_bundle(ray_bundle.generate_rays(camera_indices=0, keep_shape=True))
        return super().get_outputs(ray_bundle)
