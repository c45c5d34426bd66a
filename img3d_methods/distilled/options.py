# SPDX-License-Identifier: Apache-2.0
"""The options of a run that a guidance shapes, and the guidance that they choose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from img3d_base.errors import InputError
from img3d_generators.guidance.denoiser import PictureDenoiser
from img3d_generators.guidance.distillation import ScoreDistillation, Weighting
from img3d_generators.guidance.rows import AUTO, GuidanceRequest, GuidanceRow, Shows, chosen_row, guidance_row
from img3d_generators.guidance.schedules import FallingTimes, RandomTimes, SquareRootTimes, Times
from img3d_generators.networks.devices import Precision, dtype_of
from img3d_generators.registry import InputView


@dataclass
class DenoiserOptions:
    """The diffusion model that guides, and what it is told."""

    shows: ClassVar[Shows] = "text"
    """What the method takes."""
    guidance: str = AUTO
    """The model that guides. Of a text: "stable-diffusion-2.1", "stable-diffusion-1.5", "deepfloyd-if", "sdxl"; of an
    image: "zero123-xl", "stable-zero123", "zero123"; of a mesh file, to try everything without weights: "known-object".
    "auto": the first one whose weights are installed."""
    weights: Path | None = None
    """A folder with a pipeline in diffusers' layout, to use instead of installed weights."""
    prompt: str = ""
    """What to make, for a guidance of a text."""
    negative_prompt: str = ""
    """What not to make."""
    mesh: Path | None = None
    """The mesh file, for the guidance "known-object"."""
    guidance_scale: float = 0.0
    """Scale of classifier-free guidance, uncond + scale * (text - uncond); 0: the guidance's usual one."""
    perp_neg: bool = False
    """Perp-Neg: also use the other directions of view as negative prompts (arXiv 2304.04968); doubles the work of a
    step."""
    elevation: float = 0.0
    """Elevation of the image's camera in degrees; positive if it looks down on the object."""
    precision: Precision = "fast"
    """Precision of the guidance's networks: "fast" is half precision on a GPU (and on a CPU with instructions for
    it)."""
    offload: bool = False
    """Keep the largest network in main memory between steps, on GPUs with little memory."""
    seed: int = 0
    """Random seed of the views and of the noise."""
    picture_every: int = 50
    """Steps between two pictures of the object, in the run's folder "pictures"; 0: none."""

    def row(self) -> GuidanceRow:
        """The guidance.

        Raises:
            InputError: There is no guidance of this name, it shows something else, or weights are missing.
        """
        return chosen_row(self.guidance, self.shows, self.weights)

    def check(self) -> GuidanceRow:
        """Checks the options, and writes the guidance's name into them.

        Raises:
            InputError: One is missing or out of range.
        """
        row = self.row()
        self.guidance = row.name
        if row.shows == "text" and not self.prompt.strip():
            raise InputError('say what to make with --pipeline.prompt "a red chair"')
        if row.shows == "mesh" and self.mesh is None:
            raise InputError("this guidance shows a mesh: name its file with --pipeline.mesh")
        if self.mesh is not None and row.shows != "mesh":
            raise InputError("--pipeline.mesh is for the guidance known-object")
        for path, option in ((self.mesh, "mesh"), (self.weights, "weights")):
            if path is not None and not path.exists():
                raise InputError(f"there is no file or folder {path}; check --pipeline.{option}")
        if not -80 <= self.elevation <= 80:
            raise InputError(f"--pipeline.elevation is {self.elevation:g}: it has to be -80 to 80 degrees")
        if self.guidance_scale < 0 or self.picture_every < 0:
            raise InputError("--pipeline.guidance-scale and picture-every cannot be negative")
        return row

    def loaded_denoiser(self, row: GuidanceRow, image: torch.Tensor | None, device: torch.device) -> PictureDenoiser:
        """Loads the model.

        Args:
            row: Its row.
            image: The image `[4, S, S]`, for a guidance of one.
            device: Where it computes.

        Raises:
            InputError: Weights are missing or damaged.
        """
        from img3d_generators.weights.weight_files import to_use

        folder = self.weights
        if folder is None and row.checkpoints:
            folder = to_use(row.checkpoints[0])
        request = GuidanceRequest(
            folder=folder,
            prompt=self.prompt.strip(),
            negative_prompt=self.negative_prompt.strip(),
            image=image,
            elevation=self.elevation,
            mesh=self.mesh,
            scale=self.guidance_scale or row.scale,
            perp_neg=self.perp_neg,
            view=row.view,
            dtype=dtype_of(self.precision, device),
            device=device,
            offload=self.offload,
        )
        return row.loaded(request)


@dataclass
class GuidedPipelineOptions(DenoiserOptions):
    """The guidance that shapes the object by score distillation, and its options."""

    noise_levels: Literal["falling", "random", "square-root"] = "falling"
    """Noise that steps add: "falling" evenly, as in DreamGaussian; "random", as in DreamFusion; "square-root": falling
    fast at first (HiFA)."""
    weighting: Weighting = "sds"
    """Weight of the noise levels: DreamFusion's "sds", "uniform", or "fantasia3d", which is small at high levels."""
    clip_gradient: float = 0.0
    """Maximum absolute value of an element of the guidance's gradient; 0: no limit."""

    def check(self) -> GuidanceRow:
        """See `DenoiserOptions`."""
        if self.clip_gradient < 0:
            raise InputError("--pipeline.clip-gradient cannot be negative")
        return super().check()

    def made_guidance(self, row: GuidanceRow, image: torch.Tensor | None, device: torch.device) -> ScoreDistillation:
        """Loads the guidance. See `loaded_denoiser`."""
        times: dict[str, Times] = {
            "falling": FallingTimes(),
            "random": RandomTimes(),
            "square-root": SquareRootTimes(),
        }
        denoiser = self.loaded_denoiser(row, image, device)
        return ScoreDistillation(denoiser, times[self.noise_levels], self.weighting, self.clip_gradient, self.seed)


def camera_of(guidance: str) -> InputView:
    """The camera of a run's views, and the framing of its image.

    Args:
        guidance: The guidance's name; "" is Zero123's camera.
    """
    return guidance_row(guidance).view if guidance else InputView(0.2, 49.1, 2.0)


def absolute_paths(options: Any, absolute: Any) -> None:
    """Makes the options' paths independent of the working directory."""
    for name in ("mesh", "weights"):
        path = getattr(options, name)
        if path is not None:
            setattr(options, name, absolute(path))
