# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline for an object whose initial Gaussians come from a network instead of seed points."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians, parameters_of_gaussians
from img3d_base.console import CONSOLE
from img3d_base.errors import InputError
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.pairing import Choice, check_pair, choose, network_for
from img3d_generators.registry import row
from img3d_methods.compat import fail
from img3d_methods.generated.generated_views import read_views
from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig
from img3d_methods.splat.pipeline import Img3dSplatPipeline, Img3dSplatPipelineConfig

ONE_IMAGE = "this method takes one image: do not choose another data parser than img3d-single-image"


@dataclass
class Img3dGeneratedPipelineConfig(Img3dSplatPipelineConfig):
    """The views of one image, the generator that makes Gaussians, and the model that holds them."""

    _target: type = field(default_factory=lambda: Img3dGeneratedPipeline)
    generator: str = "object"
    """The generator, or "object" for the best one whose weights are installed. docs/one-image.md lists all."""
    network: str = "auto"
    """The network that makes the Gaussians: "lgm-big" or "lgm-big-fp32", from four of Zero123++'s views (published
    weights: `img3d-weights list`), or a generator that needs no views, such as "img3d-tiny". "auto": the best one
    installed that takes the views."""
    bridge: Literal["pad", "rescale", "rays"] = "rescale"
    """How views with another field of view than LGM's are adapted to it; see img3d_generators/bridge.py."""

    def choose(self) -> Choice:
        """Chooses the generator and its stages, so that config.yml names those that made the run.

        Raises:
            InputError: Weights are missing, stages do not fit together, or the data are not a single image.
        """
        parser = getattr(self.datamanager, "dataparser", None)
        if not isinstance(parser, Img3dSingleImageDataParserConfig):
            raise InputError(ONE_IMAGE)
        choice = choose(self.generator, parser.generator, self.network, gives="Gaussians")
        self.generator, parser.generator, self.network = choice.generator.name, choice.view_generator, choice.network
        return choice


class Img3dGeneratedPipeline(Img3dSplatPipeline):
    """Fills an `Img3dSplatModel` from a generator."""

    config: Img3dGeneratedPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dGeneratedPipelineConfig, *args: Any, **kwargs: Any) -> None:
        parser = getattr(config.datamanager, "dataparser", None)
        if isinstance(parser, Img3dSingleImageDataParserConfig) and "auto" not in (parser.generator, config.network):
            try:
                check_pair(parser.generator, config.network)  # before the views are made, which can take an hour
            except InputError as error:
                fail(str(error))
        super().__init__(config, *args, **kwargs)

    def generate(self) -> None:
        """Generates the Gaussians that the model starts from.

        Raises:
            InputError: Weights are missing, or the data are not views of one image.
        """
        dataset = self.datamanager.train_dataset
        assert dataset is not None
        folder = dataset.metadata.get("views_folder")
        if folder is None:
            raise InputError(ONE_IMAGE)
        gaussians = self._generated(Path(folder))
        model = self.model
        model.place_gaussians(
            splat_parameters(gaussians, model.config.sh_degree, dataset._dataparser_outputs.dataparser_scale)
        )
        CONSOLE.print(f"{len(gaussians):,} Gaussians generated", highlight=False)

    def _generated(self, folder: Path) -> Gaussians:
        views, image, view_generator = read_views(folder)
        network = network_for(view_generator) if self.config.network == "auto" else self.config.network
        check_pair(view_generator, network)  # again: the views may come from a run on another machine
        taker = row(network)
        if taker.takes == "views":
            return taker.loaded()(views, bridge=self.config.bridge)
        parser: Any = self.config.datamanager
        return taker.loaded()(image, parser.dataparser.seed)


def splat_parameters(gaussians: Gaussians, sh_degree: int, scale: float) -> dict[str, Tensor]:
    """The parameters that training starts from: before activations, in Nerfstudio's world, which has z up.

    Args:
        gaussians: The N generated Gaussians, y up.
        sh_degree: The model's degree of spherical harmonics.
        scale: The scale of the model's world.
    """
    moved = rotated(gaussians, Y_UP_TO_Z_UP[:, :3])
    moved.means *= np.float32(scale)
    moved.log_scales = moved.log_scales + np.float32(np.log(scale))
    return parameters_of_gaussians(moved, sh_degree)
