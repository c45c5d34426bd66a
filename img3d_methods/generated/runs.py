# SPDX-License-Identifier: Apache-2.0
"""The configurations of runs that hold what a generator makes, by the kind of asset."""

from __future__ import annotations

from nerfstudio.engine.trainer import TrainerConfig

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


def method_name(generator: str) -> str:
    """The name of a generator's method in `ns-train`."""
    return f"img3d-{generator.removeprefix('img3d-')}"


def gaussians_run(method: str, generator: str) -> TrainerConfig:
    """A run that holds, and can refine, generated Gaussians."""
    return Img3dGeneratedTrainerConfig(
        method_name=method,
        vis="viewer",
        pipeline=Img3dGeneratedPipelineConfig(
            generator=generator,
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
            # Refinement only: no growth or pruning, full size from the first step on, one colour per Gaussian. Views
            # have no exposure, and their seed points no colours to tell it by; their plain background is nothing.
            model=Img3dSplatModelConfig(
                sh_degree=0, num_downscales=0, stop_split_at=1, appearance="off", sky=False, guess_depths=False
            ),
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
