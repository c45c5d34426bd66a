# SPDX-License-Identifier: Apache-2.0
"""What exporters, the report and the viewer ask of a model, whatever it is; Nerfstudio's own models answer as well.

A model of ours has these members itself, beside Nerfstudio's own interface (`get_outputs_for_camera`,
`get_outputs_for_camera_ray_bundle`) and its `live_view`, which is what a browser can draw of it.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from nerfstudio.models.base_model import Model
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor

from img3d_assets.field import Field
from img3d_assets.gaussians import Gaussians, gaussians_of_parameters
from img3d_assets.mesh import Mesh

Asset: TypeAlias = "Gaussians | Mesh | Field"


@runtime_checkable
class Representation(Protocol):
    """What a model is, and how it renders."""

    depth_along: Literal["axis", "ray"]
    """What "depth" of `get_outputs_for_camera` is measured along: the optical axis (z), or each pixel's ray."""
    is_rasterised: bool
    """Whether a picture takes a CPU less than a second, as where no rays are followed through a field."""

    def asset(self) -> Asset | None:
        """What it holds, in the world of training (z up), off the GPU; None where that is no asset,
        as a field whose colours depend on the direction."""
        ...

    def background(self) -> Float[Tensor, "3"]:
        """The colour behind what it shows, in [0, 1]."""
        ...

    def resolution_doublings(self, max_steps: int) -> list[int]:
        """Steps of a run of this length (0: the preset's) from which training images have twice the size."""
        ...


def representation_of(model: Model) -> Representation:
    """The model itself if it answers, else what stands for it."""
    if isinstance(model, Representation):
        return model
    return SplatfactoRepresentation(model) if isinstance(model, SplatfactoModel) else FieldRepresentation(model)


class SplatfactoRepresentation:
    """Nerfstudio's splatfacto.

    Args:
        model: Of that family.
    """

    depth_along: Literal["axis", "ray"] = "axis"
    is_rasterised = True

    def __init__(self, model: SplatfactoModel) -> None:
        self._model = model

    def asset(self) -> Gaussians:
        return gaussians_of_model(self._model)

    def background(self) -> Float[Tensor, "3"]:
        return self._model._get_background_color()

    def resolution_doublings(self, max_steps: int) -> list[int]:
        config = self._model.config
        return [i * config.resolution_schedule for i in range(1, config.num_downscales + 1)]


class FieldRepresentation:
    """A model that follows rays through a field, as nerfacto does.

    Args:
        model: That renders "rgb", "accumulation" and "depth" along the ray.
    """

    depth_along: Literal["axis", "ray"] = "ray"
    is_rasterised = False

    def __init__(self, model: Model) -> None:
        self._model = model

    def asset(self) -> None:
        return None

    def background(self) -> Float[Tensor, "3"]:
        return torch.zeros(3)

    def resolution_doublings(self, max_steps: int) -> list[int]:
        return []


def gaussians_of_model(model: SplatfactoModel) -> Gaussians:
    """All Gaussians of a model of splatfacto's family, those included that cannot be seen."""
    gaussians = gaussians_of_parameters(dict(model.gauss_params.items()), model.config.sh_degree)
    gaussians.antialiased = model.config.rasterize_mode == "antialiased"
    return gaussians
