# SPDX-License-Identifier: Apache-2.0
"""A triplane that a generator made from an image, as a Nerfstudio model that renders it along rays and can train it.

Samples in empty space (known from an occupancy grid) and behind the surface are not evaluated, so that a CPU renders
a picture of 400 x 400 pixels in a second or two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor
from torch.nn import Parameter

from img3d_assets.fields.triplane import TriplaneField
from img3d_kernels.density_normals import MIN_DENSITY, density_normals
from img3d_kernels.ray_marching import OccupancyGrid, march
from img3d_methods.base_model import PlainBackgroundModel
from img3d_methods.compat import NoSignedDistanceField
from img3d_methods.training.image_metrics import ImageMetrics
from img3d_methods.viewing.point_cloud_view import PointCloudView
from img3d_methods.viewing.ray_bundles import FAR

FIELD = "field."
"""Prefix of the names of the field's weights in a checkpoint."""
EMPTY = 0.01
"""A cell is empty if its density would absorb less than this share of light on a ray's whole path through the box."""
NORMAL_STEPS = 256
"""A normal is calculated from densities around the point, at the box's shortest side divided by this."""
REFRESHED_EVERY = 16
"""Training steps after which the occupancy grid is made anew."""


@dataclass
class Img3dFieldModelConfig(NoSignedDistanceField, ModelConfig):
    """Options of a triplane's rendering."""

    _target: type = field(default_factory=lambda: Img3dFieldModel)
    enable_collider: bool = False
    """Off: rays begin at the camera and end where they leave the field's box."""
    eval_num_rays_per_chunk: int = 1 << 15
    """Rays rendered at a time."""
    num_samples: int = 128
    """Samples along each ray, evenly spaced in the field's box; TripoSR was trained with 128."""
    occupancy_resolution: int = 64
    """Cells of the occupancy grid along each side of the box; 0: no grid, every sample is evaluated."""


class Img3dFieldModel(PlainBackgroundModel):
    """A triplane, rendered along rays.

    It comes from the data (`metadata["field"]`), from `set_field`, or from a checkpoint. Depth is the distance along
    the ray.
    """

    config: Img3dFieldModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False
    field: TriplaneField | None

    def populate_modules(self) -> None:
        super().populate_modules()
        self.field = (self.kwargs.get("metadata") or {}).get("field")
        if self.field is not None:
            self.field.requires_grad_()  # generators may freeze their fields
        self._occupied: OccupancyGrid | None = None
        self.image_metrics = ImageMetrics()
        self.live_view = PointCloudView(self)
        self.step = 0

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """The planes and the network, which have separate learning rates."""
        field = self.held()
        return {"planes": [field.rows], "networks": list(field.mlp.parameters())}

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        return [
            TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._after_step),
            *self.live_view.training_callbacks(),
        ]

    def _after_step(self, step: int) -> None:
        self.step = step
        if step % REFRESHED_EVERY == 0:
            self._occupied = None

    # ------------------------------------------------------------------------------------------------ the field

    def set_field(self, field: TriplaneField) -> None:
        """Replaces the field by one in world coordinates (z up)."""
        self.field = field.to(self.device)
        self._occupied = None

    def held(self) -> TriplaneField:
        """The field, on the model's device."""
        assert self.field is not None, "neither the data nor a checkpoint had a field"
        return self.field

    def asset(self) -> TriplaneField:
        """The field in world coordinates, on the CPU."""
        field = self.held()
        if field.rows.device.type == "cpu":
            return field
        return TriplaneField.of_state_dict({name: value.cpu() for name, value in field.state_dict().items()})

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore
        """Loads a checkpoint, whatever the sizes of its field."""
        state = {name.removeprefix(FIELD): value for name, value in state_dict.items() if name.startswith(FIELD)}
        if state:
            self.set_field(TriplaneField.of_state_dict(state))
        return super().load_state_dict(state_dict, **kwargs)

    def occupied(self) -> OccupancyGrid | None:
        """The occupancy grid of the field's box, made at the first use; None if the options exclude one."""
        if self._occupied is None and self.config.occupancy_resolution > 0:
            field = self.held()
            low, high = field.bounds
            least = EMPTY / (field.path_length or float((high - low).norm()))
            self._occupied = OccupancyGrid.of(field.query, low, high, self.config.occupancy_resolution, least)
        return self._occupied

    # ------------------------------------------------------------------------------------------------ rendering

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Renders a camera; for the viewer, only what its page does not draw itself.

        Pixels that see nothing get a depth behind the whole field instead of `FAR`, so that depth can be shown as a
        picture.
        """
        outputs = super().get_outputs_for_camera(camera, obb_box)
        low, high = self.held().rendered_bounds
        behind = camera.camera_to_worlds[..., 3].norm().to(self.device) + torch.maximum(low.norm(), high.norm())
        outputs["depth"] = torch.where(outputs["depth"] < FAR, outputs["depth"], behind)
        return outputs

    def get_outputs(self, ray_bundle: RayBundle | Cameras) -> dict[str, Any]:
        """Renders rays.

        Args:
            ray_bundle: Rays of any shape, between their nears and fars, if they have these.

        Returns:
            rgb `[..., 3]` over the background, accumulation `[..., 1]` and depth `[..., 1]`: the distance along the
            ray at which half of the light is absorbed; `FAR` for rays that see less. Outside of training also normals
            `[..., 3]` of the surface there, mapped from [-1, 1] to [0, 1] as ns-export expects them.
        """
        assert isinstance(ray_bundle, RayBundle)
        shape, rays, field = ray_bundle.shape, ray_bundle.flatten(), self.held()
        low, high = field.rendered_bounds
        marched = march(
            field if self.training else field.query,
            rays.origins,
            rays.directions,
            low,
            high,
            self.config.num_samples,
            path_length=field.path_length,
            shortest=field.shortest_path,
            occupied=self.occupied(),
            nears=rays.nears,
            fars=rays.fars,
        )
        seen = marched.depth > 0
        outputs = {
            "rgb": (marched.rgb + (1 - marched.accumulation) * self.background()).view(*shape, 3),
            "accumulation": marched.accumulation.view(*shape, 1),
            "depth": torch.where(seen, marched.depth, FAR).view(*shape, 1),
        }
        if not self.training:
            normals = torch.zeros_like(rays.origins)
            hits = seen[:, 0]
            points = rays.origins[hits] + marched.depth[hits] * rays.directions[hits]
            sides = field.bounds[1] - field.bounds[0]
            normals[hits] = density_normals(self._log_density, points, float(sides.min()) / NORMAL_STEPS)
            outputs["normals"] = (0.5 + 0.5 * normals).view(*shape, 3)
        return outputs

    def _log_density(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N"]:
        return self.held().query(points)[0].clamp_min(MIN_DENSITY).log()

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared error."""
        return {"rgb_loss": torch.nn.functional.mse_loss(outputs["rgb"], self._target(batch))}
