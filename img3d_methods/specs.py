# SPDX-License-Identifier: Apache-2.0
"""The methods Nerfstudio finds through our entry points. Imports nothing optional and never raises (FACTS: one raising
entry point breaks every ns-* command for every method)."""

from __future__ import annotations

from dataclasses import replace

from nerfstudio.plugins.types import MethodSpecification

from img3d_dataparsers.specs import img3d_photos
from img3d_methods.commands.method_help import description
from img3d_methods.compat import colors_for_texture, explain_wrong_options, prepare_command, provide_ffmpeg
from img3d_methods.field.datamanager import Img3dNerfDatamanagerConfig
from img3d_methods.field.model import Img3dNerfModelConfig
from img3d_methods.field.trainer import Img3dNerfTrainerConfig
from img3d_methods.generated.dataparser_specs import img3d_single_image
from img3d_methods.generated.pipeline import Img3dGeneratedPipelineConfig
from img3d_methods.generated.trainer import Img3dGeneratedTrainerConfig
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.pipeline import Img3dSplatPipelineConfig
from img3d_methods.splat.trainer import Img3dSplatTrainerConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig
from img3d_methods.training.pipeline import Img3dPipelineConfig

prepare_command()
explain_wrong_options()
provide_ffmpeg()
colors_for_texture()

img3d_splat = MethodSpecification(
    config=Img3dSplatTrainerConfig(
        method_name="img3d-splat",
        vis="viewer",
        pipeline=Img3dSplatPipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_photos.config),
            model=Img3dSplatModelConfig(),
        ),
    ),
    description=description(
        "img3d-splat", "Gaussian splats from photos or a video, on a CPU or a GPU; camera poses are found if not given."
    ),
)

img3d_nerf = MethodSpecification(
    config=Img3dNerfTrainerConfig(
        method_name="img3d-nerf",
        vis="viewer",
        pipeline=Img3dPipelineConfig(
            # It has no use for seed points.
            datamanager=Img3dNerfDatamanagerConfig(dataparser=replace(img3d_photos.config, triangulate_points=False)),
            model=Img3dNerfModelConfig(),
        ),
    ),
    description=description(
        "img3d-nerf",
        "A radiance field from photos or a video, on a CPU or a GPU; camera poses are found if not given. Slower than "
        "img3d-splat.",
    ),
)

img3d_lgm = MethodSpecification(
    config=Img3dGeneratedTrainerConfig(
        method_name="img3d-lgm",
        vis="viewer",
        pipeline=Img3dGeneratedPipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
            # Refined only: neither grown nor pruned, at full size from the first step on, one colour a Gaussian.
            model=Img3dSplatModelConfig(sh_degree=0, num_downscales=0, stop_split_at=1),
        ),
    ),
    description=description(
        "img3d-lgm",
        "Gaussian splats of an object from one image: networks imagine its other sides and make the Gaussians, which "
        "are then refined.",
    ),
)

img3d_lgm_views = MethodSpecification(
    config=Img3dSplatTrainerConfig(
        method_name="img3d-lgm-views",
        vis="viewer",
        pipeline=Img3dSplatPipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
            model=Img3dSplatModelConfig(preset="fast"),
        ),
    ),
    description=description(
        "img3d-lgm-views",
        "Gaussian splats of an object from one image: a network imagines its other sides, img3d-splat trains on all.",
    ),
)
