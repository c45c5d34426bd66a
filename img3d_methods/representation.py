# SPDX-License-Identifier: Apache-2.0
"""The protocols through which exporters, the report and the viewer query any run; adapters cover Nerfstudio's own
models.

Our models implement it themselves, besides Nerfstudio's interface (`get_outputs_for_camera`,
`get_outputs_for_camera_ray_bundle`) and `live_view`, which is what a browser can draw. Only this module asks what class
a model or configuration is of; tests/test_architecture.py checks that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.data.datamanagers.base_datamanager import DataManager
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import Model
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor

from img3d_assets.field import Field
from img3d_assets.gaussians import Gaussians, gaussians_of_parameters
from img3d_assets.mesh import Mesh
from img3d_assets.point_cloud import PointCloud
from img3d_kernels.stereo.views import DepthMap, StereoView

Asset: TypeAlias = "Gaussians | Mesh | Field"
PhotoWithDepth: TypeAlias = "tuple[UInt8[np.ndarray, 'H W 3'], StereoView, DepthMap]"
"""A photo's colours, its camera, and what is known of each pixel's depth."""


@runtime_checkable
class Representation(Protocol):
    """What a model holds and how it renders."""

    depth_along: Literal["axis", "ray"]
    """Whether "depth" of `get_outputs_for_camera` is measured along the optical axis (z) or along each pixel's ray."""
    is_rasterised: bool
    """Whether a CPU renders a picture in less than a second, as it does without ray marching through a field."""

    def asset(self) -> Asset | None:
        """The asset that the model holds, in the training world (z up), in main memory; None if it is not an asset,
        such as a field with view-dependent colours."""
        ...

    def background(self) -> Float[Tensor, "3"]:
        """The background colour, in [0, 1]."""
        ...

    def resolution_doublings(self, max_steps: int) -> list[int]:
        """Steps from which the training images have twice the size, in a run of `max_steps` steps (0: the preset's
        length)."""
        ...


@runtime_checkable
class HoldsPoints(Protocol):
    """A model that keeps measured points of the surface beside its asset."""

    def point_cloud(self) -> PointCloud:
        """The points, in the training world (z up)."""
        ...


@runtime_checkable
class HasFaded(Protocol):
    """A model whose Gaussians became translucent in training."""

    firmness: float
    """How many times each of them has to count where surfaces are sought."""


@runtime_checkable
class MeasuresDepth(Protocol):
    """The configuration of a pipeline that measures depth in the photos, before it makes an asset."""

    def photos_with_depth(self, datamanager: Any) -> Iterator[PhotoWithDepth]:
        """The training photos, one by one, from the cache that the run left.

        Args:
            datamanager: The data manager of such a run.
        """
        ...


@runtime_checkable
class MakesViews(Protocol):
    """The configuration of a data parser that makes the views of an object."""

    generator: str
    prompt: str
    seed: int


@runtime_checkable
class MakesAsset(MakesViews, Protocol):
    """The configuration of a data parser that makes an asset, in one stage or two."""

    view_generator: str
    network: str
    options: dict[str, Any] | None


@runtime_checkable
class ReadsRemoteAsset(Protocol):
    """The options of a data parser that reads what a service on the network made."""

    index: int
    file: Path
    cache_dir: Path | None


@runtime_checkable
class CountsSteps(Protocol):
    """A run's configuration that knows how many of its steps trained something."""

    def trained_steps(self, step: int) -> int:
        """The number of steps in which something was trained, up to the checkpoint of `step`."""
        ...


def trained_steps(config: TrainerConfig, step: int) -> int:
    """The number of steps in which something was trained, up to the checkpoint of `step`; for runs of Nerfstudio's own
    methods, all of them."""
    return config.trained_steps(step) if isinstance(config, CountsSteps) else step + 1


def measured_points(model: Model) -> PointCloud | None:
    """The measured points that a model keeps beside its asset, in the training world (z up); None if it keeps none."""
    return model.point_cloud() if isinstance(model, HoldsPoints) else None


def photos_with_depth(config: TrainerConfig, datamanager: DataManager) -> Iterator[PhotoWithDepth] | None:
    """A run's training photos with the depth that it measured in them; None if it measured none."""
    pipeline = config.pipeline
    return pipeline.photos_with_depth(datamanager) if isinstance(pipeline, MeasuresDepth) else None


def view_options(dataparser: Any) -> MakesViews | None:
    """The configuration of a data parser if that makes views, otherwise None."""
    return dataparser if isinstance(dataparser, MakesViews) else None


def asset_options(dataparser: Any) -> MakesAsset | None:
    """The configuration of a data parser if that makes an asset, otherwise None."""
    return dataparser if isinstance(dataparser, MakesAsset) else None


def remote_options(dataparser: Any) -> ReadsRemoteAsset | None:
    """The options of a data parser that reads what a service on the network made; None for other data parsers."""
    return dataparser if isinstance(dataparser, ReadsRemoteAsset) else None


def representation_of(model: Model) -> Representation:
    """The model itself if it implements the protocol, otherwise an adapter for it."""
    if isinstance(model, Representation):
        return model
    return SplatfactoRepresentation(model) if isinstance(model, SplatfactoModel) else FieldRepresentation(model)


def firmness_of(model: Model) -> float:
    """How many times each of a model's Gaussians has to count where surfaces are sought."""
    return model.firmness if isinstance(model, HasFaded) else 1.0


class SplatfactoRepresentation:
    """Adapter for Nerfstudio's splatfacto.

    Args:
        model: A model of splatfacto's family.
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
    """Adapter for a model that marches rays through a field, such as nerfacto.

    Args:
        model: It renders "rgb", "accumulation" and "depth" along the ray.
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
    """All Gaussians of a model of splatfacto's family, including invisible ones."""
    gaussians = gaussians_of_parameters(dict(model.gauss_params.items()), model.config.sh_degree)
    gaussians.antialiased = model.config.rasterize_mode == "antialiased"
    return gaussians
