# SPDX-License-Identifier: Apache-2.0
"""The data manager of random views: each training step looks at the object from somewhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion

from img3d_base.errors import InputError
from img3d_generators.guidance.random_views import GeneratorDraws, RandomViews, Range, around_image
from img3d_generators.guidance.rows import GuidanceRow
from img3d_generators.guidance.views import ViewAngles
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras
from img3d_methods.distilled.options import camera_of
from img3d_methods.distilled.views import Img3dDistilledDataParserConfig
from img3d_methods.training.datamanager import Img3dDatamanager, Img3dDatamanagerConfig

LIGHT_DISTANCES = (0.46, 0.86)
"""Relative to the cameras' distance: threestudio's 0.8 to 1.5, for cameras at 1.75."""

PERTURBATIONS = ("camera_perturb", "center_perturb", "up_perturb")


@dataclass
class Img3dRandomViewsDatamanagerConfig(Img3dDatamanagerConfig):
    """From where training looks at the object."""

    _target: type = field(default_factory=lambda: Img3dRandomViewsDatamanager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=Img3dDistilledDataParserConfig)
    """The image, or the views of the result."""
    elevations: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest elevation of views, in degrees; equal ones: those around the image's elevation, and not nearer
    than 10 degrees to the poles."""
    spread: float = 30.0
    """How far above and below the image's elevation, in degrees, if the elevations are not given."""
    camera_perturb: float = 0.0
    """Largest change of each coordinate of a camera's position, relative to its distance. For a guidance of a text
    only: others have to be told exact poses."""
    center_perturb: float = 0.0
    """Standard deviation of each coordinate of the point that cameras look at, relative to their distance; likewise."""
    up_perturb: float = 0.0
    """Standard deviation of each coordinate of the cameras' upward direction, a unit vector; likewise."""
    seed: int = 0
    """Random seed of the views; the pipeline sets it."""

    def check_perturbations(self, row: GuidanceRow) -> None:
        """Checks the perturbations, and switches them off for a known mesh, whatever the method's usual ones are.

        Args:
            row: The guidance.

        Raises:
            InputError: One is negative, or cameras are perturbed for a network that is told their poses.
        """
        for name in PERTURBATIONS:
            value, option = getattr(self, name), f"--pipeline.datamanager.{name.replace('_', '-')}"
            if value < 0:
                raise InputError(f"{option} is {value:g}: it cannot be negative")
            if value > 0 and row.shows == "image":
                raise InputError(f"{option} is {value:g}, but {row.name} has to be told exact poses: it has to be 0")
            if row.shows == "mesh":
                setattr(self, name, 0.0)


class Img3dRandomViewsDatamanager(Img3dDatamanager):
    """Random cameras around the object for training; the views of the data set for everything else."""

    config: Img3dRandomViewsDatamanagerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dRandomViewsDatamanagerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.draws = torch.Generator().manual_seed(config.seed)
        """Source of the views' random numbers."""

    def elevations(self) -> Range:
        """The lowest and highest elevation of views, in degrees."""
        low, high = self.config.elevations
        parser: Any = self.config.dataparser
        return (low, high) if low < high else around_image(parser.elevation, self.config.spread)

    def next_train(self, step: int) -> tuple[Cameras | RayBundle, dict[str, Any]]:
        """A camera from a random side.

        Returns:
            In training a camera `[1]` and, as "angles", its `ViewAngles` before the perturbations, in the unit of the
            guidance; as "light" a lamp's position `[3]` in the training world. In test and inference mode what other
            data managers return.
        """
        if self.test_mode != "val":
            return super().next_train(step)
        parser: Any = self.config.dataparser
        camera = camera_of(parser.guidance)
        around = RandomViews(
            elevations=self.elevations(),
            distances=(1.0, 1.0),  # the unit of the training world is the distance of the views
            fovs=(camera.fov, camera.fov),
            camera_perturb=self.config.camera_perturb,
            center_perturb=self.config.center_perturb,
            up_perturb=self.config.up_perturb,
            light_distances=LIGHT_DISTANCES,
        )
        drawn = around.draw(1, GeneratorDraws(self.draws))
        angles = ViewAngles(drawn.angles.elevations, drawn.angles.azimuths, torch.tensor([camera.radius]))
        size = parser.view_size
        cameras = square_cameras(drawn.camera_to_worlds, focal_length(camera.fov, size), size)
        return cameras.to(self.device), {"angles": angles, "light": drawn.lights[0]}
