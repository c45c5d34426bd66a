# SPDX-License-Identifier: Apache-2.0
"""A guidance that also shapes what a generator made, Gaussians or a field, while it is refined against its views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.models.base_model import Model
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
from img3d_methods.cached_views import MAX_VIEW_SIZE, MIN_VIEW_SIZE, square_cameras
from img3d_methods.representation import representation_of
from img3d_methods.training.run_config import absolute

OFF = "off"
ELEVATIONS = (-30.0, 30.0)
"""Of the views that the guidance sees, in degrees."""
LEVELS = RandomTimes(0.02, 0.5)
"""Noise that is added: little, since the object exists."""
FIELD_SIZE = 64
"""Width and height of renders of a field, whose rays cost much more than Gaussians: DreamFusion's."""


@dataclass
class RefinementOptions:
    """Whether a guidance takes part in refining."""

    guidance: str = OFF
    """A model that also shapes the object while it is refined, from sides that no view shows: "zero123-xl",
    "stable-zero123", "zero123", or "known-object" (docs/guidance.md); "auto": the first whose weights are installed."""
    guidance_weights: Path | None = None
    """A folder with its weights, to use instead of installed ones."""
    guidance_mesh: Path | None = None
    """The mesh file, for the guidance "known-object"."""
    guidance_weight: float = 1e-4
    """Weight of the guidance's loss, a sum over a picture, beside that of the views, which is a mean."""
    guidance_size: int = 0
    """Width and height of the renders that the guidance sees, in pixels; 0: those of the views, or 64 for a field,
    whose renders take much longer."""

    def check_guidance(self) -> None:
        """Checks these options, and writes the guidance's name into them.

        Raises:
            InputError: There is no such guidance, something of it is missing, or a number is out of range.
        """
        if self.guidance == OFF:
            if self.guidance_weights is not None or self.guidance_mesh is not None:
                raise InputError("--pipeline.guidance-weights and guidance-mesh need --pipeline.guidance")
            return
        if self.guidance_weight < 0:
            raise InputError(f"--pipeline.guidance-weight is {self.guidance_weight:g}: it cannot be negative")
        if self.guidance_size != 0 and not MIN_VIEW_SIZE <= self.guidance_size <= MAX_VIEW_SIZE:
            limits = f"{MIN_VIEW_SIZE} to {MAX_VIEW_SIZE}, or 0"
            raise InputError(f"--pipeline.guidance-size is {self.guidance_size}: it has to be {limits}")
        for name in ("guidance_weights", "guidance_mesh"):
            path: Path | None = getattr(self, name)
            if path is not None:
                setattr(self, name, absolute(path))
                if not absolute(path).exists():
                    raise InputError(f"there is no file or folder {path}; check --pipeline.{name.replace('_', '-')}")
        row = self._row()
        if row.shows == "mesh" and self.guidance_mesh is None:
            raise InputError("this guidance shows a mesh: name its file with --pipeline.guidance-mesh")
        self.guidance = row.name

    def refinement(
        self, image: Float[Tensor, "4 S S"] | None, view: InputView, device: torch.device, seed: int
    ) -> GuidedRefinement:
        """The guidance that these options name, loaded.

        Args:
            image: The image of which the generator made the object.
            view: The camera that sees the object as the image does.
            device: Where it computes.
            seed: Random seed.

        Raises:
            InputError: Weights are missing or damaged, or there is no image to show to the guidance.
        """
        row = self._row()
        if row.shows == "image" and image is None:
            raise InputError(f"the guidance {row.name} takes an image, and the views' folder has none")
        denoiser = row.loaded(self._request(row, image, view, device))
        guidance = ScoreDistillation(denoiser, LEVELS, seed=seed)
        return GuidedRefinement(guidance, row, view, self.guidance_weight, seed, self.guidance_size)

    def _row(self) -> GuidanceRow:
        return chosen_row(self.guidance, "image", self.guidance_weights, "guidance-weights")

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
    size: int = 0
    """Width and height of the renders; 0: the usual ones."""

    def loss(self, model: Model, view_size: int, step: int, progress: float) -> Float[Tensor, ""]:
        """The loss of a render from a random side.

        Args:
            model: The object, in a world in which the views' cameras have distance 1.
            view_size: Width and height of the views.
            step: The step.
            progress: The part of the run that is over.
        """
        draws = GeneratorDraws(torch.Generator().manual_seed(1_000_003 * self.seed + step))
        rasterised = representation_of(model).is_rasterised
        size, fov = self.size or (view_size if rasterised else FIELD_SIZE), self.view.fov
        around = RandomViews(
            ELEVATIONS, distances=(1, 1), fovs=(fov, fov), camera_perturb=0, center_perturb=0, up_perturb=0
        )
        drawn = around.draw(1, draws)
        distance = torch.tensor([_distance(self.row, self.view)])
        angles = ViewAngles(drawn.angles.elevations, drawn.angles.azimuths, distance).to(model.device)
        cameras = square_cameras(drawn.camera_to_worlds, focal_length(fov, size), size).to(model.device)
        rays = cameras if rasterised else cameras.generate_rays(camera_indices=0, keep_shape=True)
        outputs: dict[str, Any] = model.get_outputs(rays)
        return self.weight * self.guidance.loss(outputs["rgb"].permute(2, 0, 1)[None], angles, step, progress)


def _distance(row: GuidanceRow, view: InputView) -> float:
    """The distance of the views from the object in the unit of the guidance: that of training if a network is shown the
    image, that of the views if the object is a known mesh."""
    return row.view.radius if row.shows == "image" else view.radius
