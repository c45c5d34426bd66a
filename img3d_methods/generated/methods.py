# SPDX-License-Identifier: Apache-2.0
"""Methods of generators, made from the registry's rows."""

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
"""The generator of `img3d-object`: whichever is best."""


def method_name(generator: str) -> str:
    """What `ns-train` calls a generator."""
    return f"img3d-{generator.removeprefix('img3d-')}"


def method_of(generator: str) -> MethodSpecification | None:
    """The method of a registered generator, for an entry point of the group nerfstudio.method_configs.

    Args:
        generator: A row's name, which takes an image and gives Gaussians; or "object", the best whose weights are here.

    Returns:
        None, after a line that says why, where there is no such row: an entry point that raises would break each of
        Nerfstudio's commands, and one that is None is left out by it.
    """
    if generator == OBJECT:
        summary = "Gaussian splats of an object from one image, by the best generator whose weights are here."
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
                # Refined only: neither grown nor pruned, at full size from the first step on, one colour a Gaussian.
                model=Img3dSplatModelConfig(sh_degree=0, num_downscales=0, stop_split_at=1),
            ),
        ),
        description=description(name, summary),
    )
