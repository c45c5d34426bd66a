# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline of a mesh whose texture a diffusion model refines: the second stage of DreamGaussian (Tang et
al. 2023, arXiv 2309.16653, section 3.3).

A render from a random side gets some noise, the model removes it in several steps, and the texture is fitted to the
picture that results; and, if there is an image of the object, to the image where that shows the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from img3d_assets.axes import TO_Y_UP
from img3d_assets.meshing.texture_baking import check_texture_size
from img3d_base.errors import InputError
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.denoiser import PictureDenoiser
from img3d_generators.guidance.distillation import refined
from img3d_generators.guidance.random_views import GeneratorDraws, RandomViews, around_image
from img3d_generators.guidance.rows import AUTO, GuidanceRow, chosen_row, guidance_row
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.image_preparation import prepared_image
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import MAX_VIEW_SIZE, MIN_VIEW_SIZE, square_cameras
from img3d_methods.distilled.begun_pipeline import BegunPipeline
from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.distilled.options import DenoiserOptions, absolute_paths
from img3d_methods.distilled.retexture_model import Img3dRetexturedModel
from img3d_methods.mesh.dataparser import RADIUS
from img3d_methods.training.pipeline import Img3dPipelineConfig
from img3d_methods.training.run_config import absolute

NUM_NOISE_STEPS = 50
"""Steps in which the model would make a picture of pure noise; those from a lower level are a part of them."""


@dataclass
class Img3dRetexturePipelineConfig(DenoiserOptions, Img3dPipelineConfig):
    """The guidance, and the mesh whose texture it refines."""

    _target: type = field(default_factory=lambda: Img3dRetexturePipeline)
    image: Path | None = None
    """An image of the object, for a guidance of one; the front of the mesh is what it shows."""
    given_weight: float = 1.0
    """Weight of the mean squared difference to the image, in each step, beside that to the guidance's picture."""
    front: float = 0.0
    """Azimuth of the camera that sees the front of the mesh, in degrees: 0 if it faces +z of a glTF file; 90 if +x, as
    in exported meshes of runs that a guidance shaped."""
    noise: tuple[float, float] = (0.2, 0.05)
    """Level of the noise in the first and in the last step, in (0, 1]; it falls evenly. Higher levels change more, and
    agree less from side to side. These are DreamGaussian's."""
    render_size: int = 512
    """Width and height of renders, in pixels; more than what the guidance's pictures have is not compared."""
    texture_size: int = 1024
    """Width and height of the texture of a mesh that has none. Others keep theirs."""

    def row(self) -> GuidanceRow:
        """The guidance that is named; otherwise the first one of what is given, an image or a text."""
        given = "text" if self.image is None else "image"
        shows = given if self.guidance == AUTO else guidance_row(self.guidance).shows
        return chosen_row(self.guidance, shows, self.weights)

    def prepare(self, run: str) -> GuidanceRow:
        """Checks the options.

        Args:
            run: Tells runs apart; not needed.

        Returns:
            The guidance.

        Raises:
            InputError: An option is missing or out of range, or weights are missing.
        """
        absolute_paths(self, absolute)
        row = self.check()
        if row.shows == "image" and self.image is None:
            raise InputError(f"the guidance {row.name} takes an image: name its file with --pipeline.image")
        if self.image is not None:
            self.image = absolute(self.image)
            if row.shows != "image":
                raise InputError(f"--pipeline.image is for a guidance of an image, and {row.name} is none")
            if not self.image.is_file():
                raise InputError(f"there is no file {self.image}; check --pipeline.image")
        if self.given_weight < 0:
            raise InputError("--pipeline.given-weight cannot be negative")
        if not all(0 < level <= 1 for level in self.noise):
            raise InputError(
                f"--pipeline.noise is {self.noise[0]:g} {self.noise[1]:g}: both have to be above 0, up to 1"
            )
        if not MIN_VIEW_SIZE <= self.render_size <= MAX_VIEW_SIZE:
            limits = f"{MIN_VIEW_SIZE} to {MAX_VIEW_SIZE}"
            raise InputError(f"--pipeline.render-size is {self.render_size}: it has to be {limits}")
        check_texture_size(self.texture_size)
        return row


class Img3dRetexturePipeline(BegunPipeline):
    """Refines the texture of an `Img3dRetexturedModel`. Views and noise depend on the seed and the step only."""

    config: Img3dRetexturePipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    _denoiser: PictureDenoiser | None = None
    _given: Float[Tensor, "4 S S"] | None = None
    """The image, framed as the mesh is."""

    @property
    def model(self) -> Img3dRetexturedModel:
        """The model itself, also in one of several processes."""
        return cast(Img3dRetexturedModel, super().model)

    def _begin(self) -> None:
        self.model.begin(self.config.texture_size)
        row = guidance_row(self.config.guidance)
        image = None if self.config.image is None else prepared_image(self.config.image, row.view.border_ratio)
        self._denoiser = self.config.loaded_denoiser(row, image, torch.device(self.device))
        if image is not None and self.config.given_weight > 0:
            self._given = image.to(self.device)
        self._distance = camera_distance(
            self.model.vertices.cpu().numpy(), row, self.config.front, self.config.elevation
        )

    def cameras(self, azimuths: Float[Tensor, "V"], elevations: Float[Tensor, "V"], size: int) -> Cameras:
        """The guidance's cameras in the world of the mesh.

        Args:
            azimuths: In degrees; 0 looks at the front.
            elevations: In degrees.
            size: Width and height of a picture.
        """
        poses = orbit_camera_to_worlds(azimuths + self.config.front, elevations, self._distance)
        poses = torch.from_numpy(TO_Y_UP["z"].T).float() @ poses
        fov = guidance_row(self.config.guidance).view.fov
        return square_cameras(poses, focal_length(fov, size), size).to(self.device)

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Renders from a random side, lets the guidance refine the picture, and compares the two."""
        assert self._denoiser is not None
        generator = torch.Generator().manual_seed(1_000_003 * self.config.seed + step)
        angles = self._angles(generator)
        size = self.config.render_size
        render, _ = self._picture(angles.azimuths, angles.elevations, size)
        first, last = self.config.noise
        strength = first + (last - first) * step / max(1, self.num_steps - 1)
        with failing_in_one_line():
            wanted = refined(
                self._denoiser, render.detach(), angles.to(self.device), strength, NUM_NOISE_STEPS, generator
            )
            if not torch.isfinite(wanted).all():
                raise InputError("the guidance's picture is not finite: try --pipeline.precision float32")
        compared = min(size, wanted.shape[-1])
        render, wanted = (F.interpolate(each, (compared, compared), mode="area") for each in (render, wanted))
        losses = {"refined": F.mse_loss(render, wanted)}
        if self._given is not None:
            losses["given"] = self.config.given_weight * self._difference_to_given(self._given)
        return {"rgb": render}, losses, {}

    def _picture(
        self, azimuths: Float[Tensor, "1"], elevations: Float[Tensor, "1"], size: int
    ) -> tuple[Float[Tensor, "1 3 S S"], Float[Tensor, "1 1 S S"]]:
        """A differentiable render and its opacity."""
        camera = self.cameras(azimuths, elevations, size)
        K = camera.get_intrinsics_matrices()[0]
        rgb, alpha = self.model.differentiable_picture(camera.camera_to_worlds[0], K, size)
        return rgb[None], alpha[None]

    def _difference_to_given(self, given: Float[Tensor, "4 S S"]) -> Float[Tensor, ""]:
        """The mean squared difference to the image; pixels count as far as both the mesh and the image's object cover
        them."""
        size = min(self.config.render_size, given.shape[-1])
        render, alpha = self._picture(torch.zeros(1), torch.tensor([self.config.elevation]), size)
        premultiplied = torch.cat([given[:3] * given[3:], given[3:]])
        seen = F.interpolate(premultiplied[None], (size, size), mode="area")
        colors = seen[:, :3] / seen[:, 3:].clamp_min(1e-6)
        return (seen[:, 3:] * alpha * (render - colors).square()).mean()

    def _angles(self, generator: torch.Generator) -> ViewAngles:
        """A random side."""
        around = RandomViews(around_image(self.config.elevation), distances=(1.0, 1.0))
        angles = around.draw(1, GeneratorDraws(generator)).angles
        distance = torch.tensor([guidance_row(self.config.guidance).view.radius])
        return ViewAngles(angles.elevations, angles.azimuths, distance)


def camera_distance(vertices: Float[np.ndarray, "N 3"], row: GuidanceRow, front: float, elevation: float) -> float:
    """How far cameras are from the middle of a mesh so that it is framed as the guidance expects: like the image, or
    like the known mesh.

    Args:
        vertices: The mesh, z up.
        row: The guidance.
        front: Azimuth of the image's camera, in degrees; 0 is on -y, 90 on +x.
        elevation: That of the image's camera, in degrees.
    """
    if row.shows == "mesh":
        from img3d_generators.guidance.known_object import OBJECT_RADIUS  # late: entry points import this module

        return RADIUS * row.view.radius / OBJECT_RADIUS
    (pose,) = orbit_camera_to_worlds((front,), (elevation,), 1.0)
    axes = torch.from_numpy(TO_Y_UP["z"].T).float() @ pose[:, :3]
    across, above, towards = (vertices.astype(np.float64) @ axes.double().numpy()).T
    wanted = 2 * np.tan(np.radians(row.view.fov) / 2) * (1 - row.view.border_ratio)
    low, high = RADIUS, 100.0
    for _ in range(60):
        distance = (low + high) / 2
        depth = np.maximum(distance - towards, 1e-6)
        extent = max(np.ptp(across / depth), np.ptp(above / depth))
        low, high = (low, distance) if extent < wanted else (distance, high)
    return high
