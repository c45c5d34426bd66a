# SPDX-License-Identifier: Apache-2.0
"""The methods Nerfstudio finds through our entry points. Imports nothing optional and never raises (FACTS: one raising
entry point breaks every ns-* command for every method)."""

from __future__ import annotations

from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from img3d_dataparsers.dataparser_specs import img3d_photos
from img3d_dataparsers.upstream_warnings import silence_upstream_warnings
from img3d_methods.compat import provide_ffmpeg
from img3d_methods.gaussian_adam import GaussianAdamConfig
from img3d_methods.schedulers import ExponentialDecayConfig
from img3d_methods.splat_datamanager import Img3dSplatDatamanagerConfig
from img3d_methods.splat_model import Img3dSplatModelConfig
from img3d_methods.splat_pipeline import Img3dSplatPipelineConfig
from img3d_methods.splat_trainer import Img3dTrainerConfig

silence_upstream_warnings()
provide_ffmpeg()

img3d_splat = MethodSpecification(
    config=Img3dTrainerConfig(
        method_name="img3d-splat",
        vis="viewer",
        pipeline=Img3dSplatPipelineConfig(
            datamanager=Img3dSplatDatamanagerConfig(dataparser=img3d_photos.config),
            model=Img3dSplatModelConfig(),
        ),
        # Splatfacto's rates, which are for poses scaled into [-1, 1]. Positions and sizes move twice as fast: a CPU run
        # is several times shorter than 30 000 steps (sizes: half a decibel on fox, benchmarks/NOTES.md).
        optimizers={
            "means": {
                "optimizer": GaussianAdamConfig(lr=3.2e-4),
                "scheduler": ExponentialDecayConfig(lr_final=3.2e-6),
            },
            "features_dc": {"optimizer": GaussianAdamConfig(lr=2.5e-3), "scheduler": None},
            "features_rest": {"optimizer": GaussianAdamConfig(lr=2.5e-3 / 20), "scheduler": None},
            "opacities": {"optimizer": GaussianAdamConfig(lr=0.05), "scheduler": None},
            "scales": {"optimizer": GaussianAdamConfig(lr=1e-2), "scheduler": None},
            "quats": {"optimizer": GaussianAdamConfig(lr=1e-3), "scheduler": None},
            "camera_opt": {
                "optimizer": AdamOptimizerConfig(lr=1e-4, eps=1e-15),
                "scheduler": ExponentialDecayConfig(lr_final=5e-7, warmup_fraction=1 / 30),
            },
            "bilateral_grid": {
                "optimizer": AdamOptimizerConfig(lr=2e-3, eps=1e-15),
                "scheduler": ExponentialDecayConfig(lr_final=1e-4, warmup_fraction=1 / 30),
            },
        },
    ),
    description="Gaussian splats on a CPU or a GPU, from photos with poses.",
)
