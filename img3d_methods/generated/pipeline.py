# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipelines for generated objects: Gaussians from a network instead of seed points, fields and meshes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from img3d_assets.gaussian_frames import rotated
from img3d_assets.gaussians import Gaussians, parameters_of_gaussians
from img3d_base.console import CONSOLE
from img3d_base.errors import InputError
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.pairing import Choice, check_options, check_pair
from img3d_generators.registry import Gives
from img3d_methods.compat import fail
from img3d_methods.distilled.refined_pipeline import RefinedPipeline
from img3d_methods.distilled.refinement import RefinementOptions
from img3d_methods.generated.generated_views import is_views_folder, read_given_views
from img3d_methods.generated.options import GeneratorOptions, StageOptions, choice_for, network_of_views
from img3d_methods.representation import asset_options, view_options
from img3d_methods.splat.pipeline import Img3dSplatPipeline, Img3dSplatPipelineConfig
from img3d_methods.training.pipeline import Img3dPipelineConfig

ONE_ASSET = "this method generates a {0}: do not choose another data parser than img3d-generated-{0}"
ONE_IMAGE = "this method takes one image: do not choose another data parser than img3d-single-image"


@dataclass
class Img3dGeneratedPipelineConfig(RefinementOptions, GeneratorOptions, Img3dSplatPipelineConfig):
    """The views of an object, the generator that makes Gaussians, and the model that holds them."""

    _target: type = field(default_factory=lambda: Img3dGeneratedPipeline)
    bridge: Literal["pad", "rescale", "rays"] = "rescale"
    """How views with another field of view than LGM's are adapted to it; see img3d_generators/bridge.py."""

    def choose(self) -> Choice:
        """Chooses the generator and its stages, so that config.yml names those that made the run.

        Raises:
            InputError: Weights are missing, stages do not fit together, or the data are not what the generator takes.
        """
        datamanager: Any = self.datamanager
        parser = view_options(datamanager.dataparser)
        if parser is None:
            raise InputError(ONE_IMAGE)
        self.check_guidance()
        choice = choice_for(self, datamanager.data, parser.generator, "Gaussians")
        self.generator, parser.generator, self.network = choice.generator.name, choice.view_generator, choice.network
        parser.prompt = self.prompt
        return choice


@dataclass
class Img3dGeneratedMeshPipelineConfig(StageOptions, GeneratorOptions, Img3dPipelineConfig):
    """The generator that makes a mesh, and the model that holds it."""

    gives: ClassVar[Gives] = "Mesh"

    def choose(self) -> Choice:
        """Chooses the generator and its stages, so that config.yml names those that made the run.

        Raises:
            InputError: Weights are missing, stages do not fit together, or the data are not what the generator takes.
        """
        datamanager: Any = self.datamanager
        parser = asset_options(datamanager.dataparser)
        if parser is None:
            raise InputError(ONE_ASSET.format(self.gives.lower()))
        choice = choice_for(self, datamanager.data, parser.view_generator, self.gives)
        self.generator, parser.view_generator, self.network = (
            choice.generator.name,
            choice.view_generator,
            choice.network,
        )
        parser.generator, parser.network, parser.prompt = self.generator, self.network, self.prompt
        parser.options = options = self.given()
        check_options(choice, options)
        return choice


@dataclass
class RefinedAssetPipelineConfig(RefinementOptions, Img3dGeneratedMeshPipelineConfig):
    """The generator that makes an asset, whose views are all renders, and the model that holds it and can refine it."""

    def choose(self) -> Choice:
        """See `Img3dGeneratedMeshPipelineConfig`."""
        self.check_guidance()
        return super().choose()


@dataclass
class Img3dGeneratedFieldPipelineConfig(RefinedAssetPipelineConfig):
    """The generator that makes a field, and the model that holds it."""

    _target: type = field(default_factory=lambda: Img3dGeneratedFieldPipeline)
    gives: ClassVar[Gives] = "Field"


@dataclass
class Img3dGeneratedGaussiansPipelineConfig(RefinedAssetPipelineConfig, Img3dSplatPipelineConfig):
    """The generator that makes Gaussians, whose views are all renders, and the model that holds them."""

    _target: type = field(default_factory=lambda: Img3dGeneratedPipeline)
    gives: ClassVar[Gives] = "Gaussians"


class Img3dGeneratedFieldPipeline(RefinedPipeline):
    """Holds and refines the field of an `Img3dFieldModel`."""


class Img3dGeneratedPipeline(RefinedPipeline, Img3dSplatPipeline):
    """Fills an `Img3dSplatModel` from a generator."""

    config: Img3dGeneratedPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dGeneratedPipelineConfig, *args: Any, **kwargs: Any) -> None:
        datamanager: Any = config.datamanager
        parser = view_options(datamanager.dataparser)
        given = is_views_folder(datamanager.data or datamanager.dataparser.data)
        if parser is not None and not given and "auto" not in (parser.generator, config.network):
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
        gaussians, folder = (dataset.metadata.get(name) for name in ("gaussians", "views_folder"))
        if folder is None:
            raise InputError(ONE_IMAGE)
        if gaussians is None:
            gaussians = self._generated(Path(folder))
        model = self.model
        model.place_gaussians(
            splat_parameters(gaussians, model.config.sh_degree, dataset._dataparser_outputs.dataparser_scale)
        )
        CONSOLE.print(f"{len(gaussians):,} Gaussians generated", highlight=False)

    def _generated(self, folder: Path) -> Gaussians:
        views, image, view_generator = read_given_views(folder)
        taker = network_of_views(self.config, view_generator)  # again: the views may be from a run on another machine
        if taker.takes == "views":
            return taker.loaded()(views, bridge=self.config.bridge)
        datamanager: Any = self.config.datamanager
        return taker.loaded()(self.config.prompt if taker.takes == "text" else image, datamanager.dataparser.seed)


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
