# SPDX-License-Identifier: Apache-2.0
"""Methods for generators, built from the rows of the registry."""

from __future__ import annotations

from nerfstudio.plugins.types import MethodSpecification

from img3d_base.errors import warn
from img3d_generators.registry import rows
from img3d_methods.commands.method_help import description
from img3d_methods.generated.dataparser_specs import img3d_single_image
from img3d_methods.generated.pipeline import Img3dGeneratedPipelineConfig
from img3d_methods.generated.trainer import Img3dGeneratedTrainerConfig
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig

OBJECT = "object"
"""The generator name of `img3d-object`: stands for the best one whose weights are installed."""


def method_name(generator: str) -> str:
    """The name of a generator's method in `ns-train`."""
    return f"img3d-{generator.removeprefix('img3d-')}"


def method_of(generator: str) -> MethodSpecification | None:
    """The method of a registered generator, for an entry point of the group nerfstudio.method_configs.

    Args:
        generator: The name of a row that takes an image and gives Gaussians; or "object", for the best one whose
            weights are installed.

    Returns:
        The method; None, after a warning, if there is no such row. (An entry point that raises would break all of
        Nerfstudio's commands; one that is None is skipped.)
    """
    if generator == OBJECT:
        summary = "Gaussian splats of an object from one image, by the best generator whose weights are installed."
    else:
        row = rows().get(generator) or rows().get(f"img3d-{generator}")
        if row is None or not row.is_whole or (row.takes, row.gives) != ("image", "Gaussians"):
            reason = "there is no such generator" if row is None else f"it makes {row.gives} of {row.takes}"
            warn(f"the method {method_name(generator)} is left out: {reason}")
            return None
        generator = row.name
        summary = f"Gaussian splats of an object from one image: {row.title or row.name}."
    name = method_name(generator)
    return MethodSpecification(
        config=Img3dGeneratedTrainerConfig(
            method_name=name,
            vis="viewer",
            pipeline=Img3dGeneratedPipelineConfig(
                generator=generator,
                datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
                # Refinement only: no growth or pruning, full size from the first step on, one colour per Gaussian.
                model=Img3dSplatModelConfig(sh_degree=0, num_downscales=0, stop_split_at=1),
            ),
        ),
        description=description(name, summary),
    )
