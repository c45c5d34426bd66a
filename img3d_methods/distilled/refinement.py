# SPDX-License-Identifier: Apache-2.0
"""A guidance that also shapes Gaussians which a generator made, while they are refined against their views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.distillation import ScoreDistillation
from img3d_generators.guidance.random_views import GeneratorDraws, RandomViews
from img3d_generators.guidance.rows import GuidanceRequest, GuidanceRow, chosen_row
from img3d_generators.guidance.schedules import RandomTimes
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.networks.devices import default_dtype
from img3d_generators.registry import InputView
from img3d_kernels.poses import focal_length
from img3d_methods.cached_views import square_cameras
from img3d_methods.splat.model import Img3dSplatModel
from img3d_methods.training.run_config import absolute

OFF = "off"
ELEVATIONS = (-30.0, 30.0)
"""Of the views that the guidance sees, in degrees."""
LEVELS = RandomTimes(0.02, 0.5)
"""Noise that is added: little, since the object exists."""


@dataclass
class RefinementOptions:
    """Whether a guidance takes part in refining."""

    guidance: str = OFF
    """A model that also shapes the Gaussians while they are refined, from sides that no view shows: "zero123-xl",
    "stable-zero123", "zero123", or "known-object" (docs/guidance.md); "auto": the first whose weights are installed."""
    guidance_weights: Path | None = None
    """A folder with its weights, to use instead of installed ones."""
    guidance_mesh: Path | None = None
    """The mesh file, for the guidance "known-object"."""
    guidance_weight: float = 1e-4
    """Weight of the guidance's loss, a sum over a picture, beside that of the views, which is a mean."""

    def check_guidance(self) -> None:
        """Checks these options, and writes the guidance's name into them.

        Raises:
            InputError: There is no such guidance, or something of it is missing.
        """
        if self.guidance == OFF:
            if self.guidance_weights is not None or self.guidance_mesh is not None:
                raise InputError("--pipeline.guidance-weights and guidance-mesh need --pipeline.guidance")
            return
        for name in ("guidance_weights", "guidance_mesh"):
            path: Path | None = getattr(self, name)
            if path is not None:
                setattr(self, name, absolute(path))
                if not absolute(path).exists():
                    raise InputError(f"there is no file or folder {path}; check --pipeline.{name.replace('_', '-')}")
        row = chosen_row(self.guidance, "image", self.guidance_weights)
        if row.shows == "mesh" and self.guidance_mesh is None:
            raise InputError("this guidance shows a mesh: name its file with --pipeline.guidance-mesh")
        self.guidance = row.name

    def refinement(
        self, image: Float[Tensor, "4 S S"] | None, view: InputView, device: torch.device, seed: int
    ) -> GuidedRefinement | None:
        """The guidance, loaded; None if there is none.

        Args:
            image: The image of which the generator made the object.
            view: The camera that sees the object as the image does.
            device: Where it computes.
            seed: Random seed.

        Raises:
            InputError: Weights are missing or damaged, or there is no image to show to the guidance.
        """
        if self.guidance == OFF:
            return None
        row = chosen_row(self.guidance, "image", self.guidance_weights)
        if row.shows == "image" and image is None:
            raise InputError(f"the guidance {row.name} takes an image, and the views' folder has none")
        denoiser = row.loaded(self._request(row, image, view, device))
        return GuidedRefinement(ScoreDistillation(denoiser, LEVELS, seed=seed), row, view, self.guidance_weight, seed)

    def _request(
        self, row: GuidanceRow, image: Float[Tensor, "4 S S"] | None, view: InputView, device: torch.device
    ) -> GuidanceRequest:
        from img3d_generators.weights.weight_files import to_use

        folder = self.guidance_weights
        if folder is None and row.checkpoints:
            folder = to_use(row.checkpoints[0])
        seen = InputView(view.border_ratio, view.fov, _distance(row, view))
        dtype = default_dtype(device)
        return GuidanceRequest(
            folder, image=image, mesh=self.guidance_mesh, scale=row.scale, view=seen, dtype=dtype, device=device
        )


@dataclass
class GuidedRefinement:
    """What the guidance adds to the loss of a step. Its views depend on the seed and the step only."""

    guidance: ScoreDistillation
    row: GuidanceRow
    view: InputView
    weight: float
    seed: int

    def loss(self, model: Img3dSplatModel, size: int, step: int, progress: float) -> Float[Tensor, ""]:
        """The loss of a render from a random side.

        Args:
            model: The Gaussians, in a world in which the views' cameras have distance 1.
            size: Width and height of the render.
            step: The step.
            progress: The part of the run that is over.
        """
        draws = GeneratorDraws(torch.Generator().manual_seed(1_000_003 * self.seed + step))
        fov = self.view.fov
        around = RandomViews(
            ELEVATIONS, distances=(1, 1), fovs=(fov, fov), camera_perturb=0, center_perturb=0, up_perturb=0
        )
        drawn = around.draw(1, draws)
        distance = torch.tensor([_distance(self.row, self.view)])
        angles = ViewAngles(drawn.angles.elevations, drawn.angles.azimuths, distance).to(model.device)
        cameras = square_cameras(drawn.camera_to_worlds, focal_length(fov, size), size).to(model.device)
        rgb = model.get_outputs(cameras)["rgb"]
        return self.weight * self.guidance.loss(rgb.permute(2, 0, 1)[None], angles, step, progress)


def _distance(row: GuidanceRow, view: InputView) -> float:
    """The distance of the views from the object in the unit of the guidance: that of training if a network is shown the
    image, that of the views if the object is a known mesh."""
    return row.view.radius if row.shows == "image" else view.radius
