# SPDX-License-Identifier: Apache-2.0
"""The models that can guide, one row each. A new one consists of a file with its denoiser, a YAML file of its weights
in configs/, and a row here."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from img3d_base.errors import InputError
from img3d_generators.guidance.denoiser import PictureDenoiser
from img3d_generators.registry import InputView

Shows = Literal["text", "image", "mesh"]
AUTO = "auto"
"""Stands for the first suitable row whose weights are installed."""
TEXT_VIEW = InputView(border_ratio=0.2, fov=49.1, radius=2.5)
"""Camera of models of a text, which know none themselves."""


@dataclass(frozen=True)
class GuidanceRequest:
    """What a guidance should show, and how it should compute."""

    folder: Path | None = None
    """Folder of the weights; None for a guidance without weights."""
    prompt: str = ""
    negative_prompt: str = ""
    image: Float[Tensor, "4 S S"] | None = None
    """RGBA in [0, 1], straight alpha, framed as the row's view says."""
    elevation: float = 0.0
    """Elevation of the image's camera in degrees; positive is above the object."""
    mesh: Path | None = None
    """The file of the mesh to show."""
    scale: float = 0.0
    """Scale of classifier-free guidance."""
    perp_neg: bool = False
    """Whether to use Perp-Neg instead of one prompt for each direction."""
    view: InputView = TEXT_VIEW
    """The camera of all views: field of view and distance."""
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    offload: bool = False
    """Whether the largest network is in main memory between steps."""


@dataclass(frozen=True)
class GuidanceRow:
    """A model that can guide."""

    name: str
    """The name that users give as --pipeline.guidance."""
    title: str
    """What it is, in one line."""
    shows: Shows
    """The kind of input that it shows."""
    load: str
    """`module:function`, which makes a denoiser from a `GuidanceRequest`."""
    checkpoints: tuple[str, ...] = ()
    """Names of the checkpoints that it needs."""
    scale: float = 100.0
    """Default scale of classifier-free guidance, in the form uncond + scale * (cond - uncond)."""
    view: InputView = TEXT_VIEW
    """Default camera, and the framing of the image."""

    def loaded(self, request: GuidanceRequest) -> PictureDenoiser:
        """Loads the denoiser.

        Raises:
            InputError: Weights are missing, or files are damaged or of another model.
        """
        module, function = self.load.split(":")
        return getattr(import_module(module), function)(request)


def text_denoiser(request: GuidanceRequest) -> PictureDenoiser:
    """The denoiser of a text-to-image model."""
    from img3d_generators.guidance.text_files import load_text_diffusion

    return load_text_diffusion(
        _needed(request.folder),
        request.prompt,
        request.negative_prompt,
        request.dtype,
        request.device,
        request.offload,
        guidance_scale=request.scale,
        perp_neg=request.perp_neg,
    )


def zero123_denoiser(request: GuidanceRequest, fixed_distance: bool = False) -> PictureDenoiser:
    """The denoiser of Zero123."""
    from img3d_generators.guidance.zero123_files import load_zero123

    assert request.image is not None
    return load_zero123(
        _needed(request.folder),
        request.image,
        request.elevation,
        request.view.radius,
        request.dtype,
        request.device,
        request.offload,
        guidance_scale=request.scale,
        fixed_distance=fixed_distance,
    )


def stable_zero123_denoiser(request: GuidanceRequest) -> PictureDenoiser:
    """The denoiser of Stable Zero123, whose network takes the image's elevation instead of the change of distance."""
    return zero123_denoiser(request, fixed_distance=True)


def known_object_denoiser(request: GuidanceRequest) -> PictureDenoiser:
    """The exact denoiser of a mesh.

    Raises:
        InputError: The request names no mesh, or its file cannot be read.
    """
    from img3d_generators.guidance.known_object import denoiser_of_mesh

    if request.mesh is None:
        raise InputError("this guidance shows a mesh: name its file with --pipeline.mesh")
    return denoiser_of_mesh(request.mesh, request.view)


def _needed(folder: Path | None) -> Path:
    assert folder is not None
    return folder


ZERO123_VIEW = InputView(border_ratio=0.2, fov=49.1, radius=2.0)
"""Camera and framing of Zero123 and Zero123-XL, also used for known objects."""
OF_TEXT = "img3d_generators.guidance.rows:text_denoiser"
ROWS = (
    GuidanceRow(
        "stable-diffusion-2.1",
        "Stable Diffusion 2.1 at 512 pixels",
        "text",
        OF_TEXT,
        ("stable-diffusion-2.1-base",),
    ),
    GuidanceRow(
        "stable-diffusion-1.5",
        "Stable Diffusion 1.5 at 512 pixels",
        "text",
        OF_TEXT,
        ("stable-diffusion-1.5",),
    ),
    GuidanceRow("deepfloyd-if", "DeepFloyd IF XL at 64 pixels", "text", OF_TEXT, ("deepfloyd-if-xl",), scale=20.0),
    GuidanceRow("sdxl", "Stable Diffusion XL at 1024 pixels", "text", OF_TEXT, ("sdxl-base",)),
    GuidanceRow(
        "zero123-xl",
        "Zero123-XL at 256 pixels",
        "image",
        "img3d_generators.guidance.rows:zero123_denoiser",
        ("zero123-xl",),
        scale=5.0,
        view=ZERO123_VIEW,
    ),
    GuidanceRow(
        "stable-zero123",
        "Stable Zero123 at 256 pixels",
        "image",
        "img3d_generators.guidance.rows:stable_zero123_denoiser",
        ("stable-zero123",),
        scale=3.0,
        view=InputView(border_ratio=0.2, fov=20.0, radius=3.8),
    ),
    GuidanceRow(
        "zero123",
        "Zero123 at 256 pixels, from a folder of your own",
        "image",
        "img3d_generators.guidance.rows:zero123_denoiser",
        scale=5.0,
        view=ZERO123_VIEW,
    ),
    GuidanceRow(
        "known-object",
        "the exact denoiser of a mesh file; needs no weights, shows that everything else works",
        "mesh",
        "img3d_generators.guidance.rows:known_object_denoiser",
        scale=1.0,
        view=ZERO123_VIEW,
    ),
)
"""The best of each kind first."""


def guidance_row(name: str) -> GuidanceRow:
    """The row with this name.

    Raises:
        InputError: There is none.
    """
    found = {row.name: row for row in ROWS}
    if name not in found:
        raise InputError(f"There is no guidance {name}; there are: {', '.join(found)}")
    return found[name]


def chosen_row(name: str, shows: Shows, folder: Path | None, option: str = "weights") -> GuidanceRow:
    """The row that a user asks for.

    Args:
        name: Its name, or "auto" for the first one of this kind whose weights are installed.
        shows: The kind of input that the method takes. Guidances that show a mesh suit every method.
        folder: The user's own weights; then no installed ones are needed.
        option: The pipeline's option that names this folder, for messages.

    Raises:
        InputError: There is no such row, it shows something else, or weights are missing.
    """
    from img3d_generators.pairing import how_to_fetch, missing_checkpoints

    of_kind = [row for row in ROWS if row.shows == shows]
    if name != AUTO:
        row = guidance_row(name)
        if row.shows not in (shows, "mesh"):
            others = ", ".join(row.name for row in of_kind)
            raise InputError(f"the guidance {name} takes {_named(row.shows)}, not {_named(shows)}; these do: {others}")
        candidates = [row]
    else:
        candidates = of_kind
    if folder is not None:
        return candidates[0]
    for row in candidates:
        if not missing_checkpoints(row.checkpoints) and (row.checkpoints or row.shows == "mesh"):
            return row
    if not candidates[0].checkpoints:
        raise InputError(f"the guidance {name} needs weights: name their folder with --pipeline.{option}")
    missing = missing_checkpoints(candidates[0].checkpoints)
    raise InputError(f"the guidance {candidates[0].name} needs weights that are not installed: {how_to_fetch(missing)}")


def _named(shows: Shows) -> str:
    return "an image" if shows == "image" else f"a {shows}"
