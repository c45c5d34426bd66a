# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's pipeline with an object that a network generates, instead of points that training starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from img3d_assets.activated_gaussians import ActivatedGaussians
from img3d_base.console import CONSOLE
from img3d_base.errors import InputError
from img3d_dataparsers.formats.capture_files import ARKIT_TO_Z_UP as Y_UP_TO_Z_UP
from img3d_generators.pairing import best_view_generator, check_pair, network_for
from img3d_kernels.spherical_harmonics import rgb_to_sh
from img3d_methods.compat import fail
from img3d_methods.generated.generated_views import read_views
from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig
from img3d_methods.splat.pipeline import Img3dSplatPipeline, Img3dSplatPipelineConfig


@dataclass
class Img3dGeneratedPipelineConfig(Img3dSplatPipelineConfig):
    """One image's views, the network that makes Gaussians of them, and the model that holds these."""

    _target: type = field(default_factory=lambda: Img3dGeneratedPipeline)
    network: Literal["auto", "img3d-tiny", "lgm-big"] = "auto"
    """What makes the Gaussians: "lgm-big", from four of the views (published weights: `img3d-weights list`), or
    "img3d-tiny", from the image itself (comes with img3d; simple objects only). "auto": tiny for views that tiny made,
    LGM for others."""
    bridge: Literal["pad", "rescale", "rays"] = "rescale"
    """How views of another lens than LGM's are brought to it; see img3d_generators/bridge.py."""


class Img3dGeneratedPipeline(Img3dSplatPipeline):
    """Fills an `Img3dSplatModel` from a network."""

    config: Img3dGeneratedPipelineConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dGeneratedPipelineConfig, *args: Any, **kwargs: Any) -> None:
        parser = getattr(config.datamanager, "dataparser", None)
        if config.network != "auto" and isinstance(parser, Img3dSingleImageDataParserConfig):
            generator = best_view_generator() if parser.generator == "auto" else parser.generator
            try:
                check_pair(generator, config.network)  # before the views are made, which can take an hour
            except InputError as error:
                fail(str(error))
        super().__init__(config, *args, **kwargs)

    def generate(self) -> None:
        """Have the network make the Gaussians that the model starts from.

        Raises:
            InputError: its weights are not here, or the data is not one image's views.
        """
        dataset = self.datamanager.train_dataset
        assert dataset is not None
        folder = dataset.metadata.get("views_folder")
        if folder is None:
            raise InputError("img3d-lgm takes one image: leave its data parser, img3d-single-image, as it is")
        gaussians = self._generated(Path(folder))
        model = self.model
        model.place_gaussians(
            splat_parameters(gaussians, model.config.sh_degree, dataset._dataparser_outputs.dataparser_scale)
        )
        CONSOLE.print(f"{len(gaussians):,} Gaussians generated", highlight=False)

    def _generated(self, folder: Path) -> ActivatedGaussians:
        # Imported late: a trained run needs no network.
        views, image, generator = read_views(folder)
        network = network_for(generator) if self.config.network == "auto" else self.config.network
        check_pair(generator, network)  # again: the views may be of an earlier run, which somebody brought here
        if network == "img3d-tiny":
            from img3d_generators.tiny import load_tiny

            return load_tiny().generate(image)
        from img3d_generators.published_networks import published_lgm, views_to_gaussians

        return views_to_gaussians(views, published_lgm(network), self.config.bridge)


def splat_parameters(gaussians: ActivatedGaussians, sh_degree: int, scale: float) -> dict[str, Tensor]:
    """Generated Gaussians as `initial_gaussians` gives its own: before their activations, in Nerfstudio's world (z up).

    Args:
        gaussians: N of them, y up.
        sh_degree: of the model; colours are the same from everywhere, coefficients beyond the constant one are 0.
        scale: of the model's world.
    """
    to_z_up = torch.eye(4)
    to_z_up[:3, :3] = torch.from_numpy(Y_UP_TO_Z_UP[:, :3])
    moved = gaussians.transformed(to_z_up)
    rgbs = moved.colors
    return {
        "means": (scale * moved.means).contiguous(),
        "scales": (scale * moved.scales).clamp_min(1e-8).log(),
        "quats": moved.quats,
        "features_dc": rgb_to_sh(rgbs) if sh_degree > 0 else rgbs.logit(eps=1e-4),
        "features_rest": torch.zeros(len(moved), (sh_degree + 1) ** 2 - 1, 3),
        "opacities": moved.opacities[:, None].logit(eps=1e-4),
    }
