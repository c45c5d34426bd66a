# SPDX-License-Identifier: Apache-2.0
"""Methods for generators, built from the rows of the registry."""

from __future__ import annotations

from collections.abc import Callable

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from img3d_base.errors import warn
from img3d_generators.registry import Gives, Takes, rows
from img3d_methods.commands.method_help import description
from img3d_methods.field.datamanager import Img3dNerfDatamanagerConfig
from img3d_methods.field.field_model import Img3dFieldModelConfig
from img3d_methods.generated.dataparser_specs import (
    img3d_generated_field,
    img3d_generated_gaussians,
    img3d_generated_mesh,
    img3d_single_image,
)
from img3d_methods.generated.field_trainer import Img3dGeneratedFieldTrainerConfig
from img3d_methods.generated.pipeline import (
    Img3dGeneratedFieldPipelineConfig,
    Img3dGeneratedGaussiansPipelineConfig,
    Img3dGeneratedMeshPipelineConfig,
    Img3dGeneratedPipelineConfig,
)
from img3d_methods.generated.trainer import Img3dGeneratedMeshTrainerConfig, Img3dGeneratedTrainerConfig
from img3d_methods.mesh.model import Img3dMeshModelConfig
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig

OBJECT = "object"
"""The generator name of `img3d-object`: stands for the best one whose weights are installed."""
SOURCES: dict[Takes, str] = {"image": "one image", "views": "posed views, or one image", "text": "a text"}
"""What each kind of input is called in the list of methods."""


def gaussians_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds, and can refine, generated Gaussians."""
    return Img3dGeneratedTrainerConfig(
        method_name=method,
        vis="viewer",
        pipeline=Img3dGeneratedPipelineConfig(
            generator=generator,
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
            # Refinement only: no growth or pruning, full size from the first step on, one colour per Gaussian. Views
            # have no exposure, and their seed points no colours to tell it by; their plain background is no sky.
            model=Img3dSplatModelConfig(sh_degree=0, num_downscales=0, stop_split_at=1, appearance="off", sky=False),
        ),
    )


def seen_from_all_sides_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds generated Gaussians, and can refine them against their own renders."""
    return Img3dGeneratedTrainerConfig(
        method_name=method,
        vis="viewer",
        max_num_iterations=0,
        pipeline=Img3dGeneratedGaussiansPipelineConfig(
            generator=generator,
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_generated_gaussians.config),
            model=Img3dSplatModelConfig(
                sh_degree=0, num_downscales=0, stop_split_at=1, appearance="off", rasterize_mode="antialiased"
            ),
        ),
    )


def mesh_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds a generated mesh, which is not trained."""
    return Img3dGeneratedMeshTrainerConfig(
        method_name=method,
        vis="viewer",
        pipeline=Img3dGeneratedMeshPipelineConfig(
            generator=generator,
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_generated_mesh.config),
            model=Img3dMeshModelConfig(),
        ),
    )


def field_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds, and can refine, a generated field."""
    return Img3dGeneratedFieldTrainerConfig(
        method_name=method,
        vis="viewer",
        pipeline=Img3dGeneratedFieldPipelineConfig(
            generator=generator,
            datamanager=Img3dNerfDatamanagerConfig(dataparser=img3d_generated_field.config),
            model=Img3dFieldModelConfig(),
        ),
    )


RUNS: dict[Gives, tuple[str, Callable[[str, str], TrainerConfig]]] = {
    "Gaussians": ("Gaussian splats", gaussians_run),
    "Mesh": ("A mesh", mesh_run),
    "Field": ("A radiance field", field_run),
}
"""For each kind of asset, its name in the list of methods, and the run that holds it (from the method's name and the
generator's)."""


def method_name(generator: str) -> str:
    """The name of a generator's method in `ns-train`."""
    return f"img3d-{generator.removeprefix('img3d-')}"


def method_of(generator: str) -> MethodSpecification | None:
    """The method of a registered generator, for an entry point of the group nerfstudio.method_configs.

    Args:
        generator: The name of a row that gives an asset of a kind in `RUNS`; or "object", for the best one that gives
            Gaussians of an image and whose weights are installed.

    Returns:
        The method; None, after a warning, if there is no such row. (An entry point that raises would break all of
        Nerfstudio's commands; one that is None is skipped.)
    """
    name = method_name(generator)
    if generator == OBJECT:
        summary = "Gaussian splats of an object from one image, by the best generator whose weights are installed."
        return MethodSpecification(config=gaussians_run(name, generator), description=description(name, summary))
    row = rows().get(generator) or rows().get(f"img3d-{generator}")
    if row is None or row.gives not in RUNS:
        reason = "there is no such generator" if row is None else f"it makes {row.gives}"
        warn(f"the method {name} is left out: {reason}")
        return None
    kind, run = RUNS[row.gives]
    if row.gives == "Gaussians" and not row.is_aligned:
        run = seen_from_all_sides_run
    summary = f"{kind} of an object from {SOURCES[row.takes]}: {row.title or row.name}."
    return MethodSpecification(config=run(name, row.name), description=description(name, summary, row.takes))
