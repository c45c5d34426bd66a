# SPDX-License-Identifier: Apache-2.0
"""Entry points: the methods that a guidance shapes, and their data parser's options."""

from __future__ import annotations

from nerfstudio.plugins.types import MethodSpecification

from img3d_methods.commands.method_help import description
from img3d_methods.distilled.datamanager import Img3dRandomViewsDatamanagerConfig
from img3d_methods.distilled.dataparser_specs import img3d_distilled
from img3d_methods.distilled.field_model import Img3dShapedFieldModelConfig
from img3d_methods.distilled.field_pipeline import Img3dShapedFieldPipelineConfig
from img3d_methods.distilled.field_trainer import Img3dShapedFieldTrainerConfig
from img3d_methods.distilled.pipeline import Img3dDistilledPipelineConfig, Img3dZero123PipelineConfig
from img3d_methods.distilled.retexture_model import Img3dRetexturedModelConfig
from img3d_methods.distilled.retexture_pipeline import Img3dRetexturePipelineConfig
from img3d_methods.distilled.retexture_trainer import Img3dRetextureTrainerConfig
from img3d_methods.distilled.trainer import Img3dDistilledTrainerConfig
from img3d_methods.mesh.dataparser_specs import img3d_mesh
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig


def shaped_gaussians() -> Img3dSplatModelConfig:
    """The model, with DreamGaussian's schedule: a quarter, a half and the whole of the size, and densification until
    the end."""
    return Img3dSplatModelConfig(
        sh_degree=0,
        num_downscales=2,
        full_resolution_at=0.6,
        max_gaussians=30_000,
        background_color="white",
        appearance="off",
        sky=False,
        opacity_decay=0.0,
        camera_clearance=0.0,
        max_relative_size=0.05,
        densify_grad_thresh=0.01,
        cull_alpha_thresh=0.01,
        reset_alpha_every=1000,
        warmup_length=90,
        refine_every=50,
        num_random=5000,
    )


img3d_dreamfusion = MethodSpecification(
    config=Img3dDistilledTrainerConfig(
        method_name="img3d-dreamfusion",
        vis="viewer",
        pipeline=Img3dDistilledPipelineConfig(
            datamanager=Img3dRandomViewsDatamanagerConfig(dataparser=img3d_distilled.config),
            model=shaped_gaussians(),
        ),
    ),
    description=description(
        "img3d-dreamfusion",
        "Gaussian splats of a text, shaped by a text-to-image model (score distillation); for GPUs.",
    ),
)

img3d_dreamfusion_nerf = MethodSpecification(
    config=Img3dShapedFieldTrainerConfig(
        method_name="img3d-dreamfusion-nerf",
        vis="viewer",
        pipeline=Img3dShapedFieldPipelineConfig(
            # threestudio's 0.1, 0.2 and 0.02, of cameras at 1.5 to 2
            datamanager=Img3dRandomViewsDatamanagerConfig(
                dataparser=img3d_distilled.config, camera_perturb=0.057, center_perturb=0.114, up_perturb=0.02
            ),
            model=Img3dShapedFieldModelConfig(),
        ),
    ),
    description=description(
        "img3d-dreamfusion-nerf",
        "A radiance field of a text, shaped by a text-to-image model (score distillation); for GPUs.",
    ),
)

img3d_zero123 = MethodSpecification(
    config=Img3dDistilledTrainerConfig(
        method_name="img3d-zero123",
        vis="viewer",
        pipeline=Img3dZero123PipelineConfig(
            datamanager=Img3dRandomViewsDatamanagerConfig(dataparser=img3d_distilled.config),
            model=shaped_gaussians(),
        ),
    ),
    description=description(
        "img3d-zero123", "Gaussian splats of an object from one image, whose other sides Zero123 shapes; for GPUs."
    ),
)

img3d_retexture = MethodSpecification(
    config=Img3dRetextureTrainerConfig(
        method_name="img3d-retexture",
        vis="viewer",
        pipeline=Img3dRetexturePipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_mesh.config),
            model=Img3dRetexturedModelConfig(),
        ),
    ),
    description=description(
        "img3d-retexture",
        "A mesh file whose texture a diffusion model refines, after a text or an image; for GPUs.",
    ),
)
