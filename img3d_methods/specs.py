# SPDX-License-Identifier: Apache-2.0
"""The methods that Nerfstudio finds through our entry points; those of generators are made from the registry's rows.

Imports nothing optional and never raises: an entry point that raises breaks every ns-* command for every method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nerfstudio.plugins.types import MethodSpecification

from img3d_dataparsers.specs import img3d_photos
from img3d_methods.commands.method_help import description
from img3d_methods.compat import (
    colors_for_texture,
    explain_wrong_options,
    name_callers_only,
    prepare_command,
    provide_ffmpeg,
    scene_box_for_volume,
)
from img3d_methods.field.datamanager import Img3dNerfDatamanagerConfig
from img3d_methods.field.model import Img3dNerfModelConfig
from img3d_methods.field.trainer import Img3dNerfTrainerConfig, nerf_optimizers
from img3d_methods.generated.dataparser_specs import img3d_remote as img3d_remote_data
from img3d_methods.generated.dataparser_specs import img3d_single_image
from img3d_methods.generated.methods import method_of
from img3d_methods.generated.remote import Img3dRemotePipelineConfig, Img3dRemoteTrainerConfig
from img3d_methods.mesh.dataparser_specs import img3d_mesh as img3d_mesh_data
from img3d_methods.mesh.model import Img3dMeshModelConfig
from img3d_methods.mesh.trainer import Img3dMeshTrainerConfig
from img3d_methods.mvs.datamanager import Img3dMvsDatamanagerConfig
from img3d_methods.mvs.model import Img3dMvsModelConfig
from img3d_methods.mvs.pipeline import Img3dMvsPipelineConfig
from img3d_methods.mvs.trainer import Img3dMvsTrainerConfig
from img3d_methods.splat.model import Img3dSplatModelConfig
from img3d_methods.splat.pipeline import Img3dSplatPipelineConfig
from img3d_methods.splat.trainer import Img3dSplatTrainerConfig
from img3d_methods.training.datamanager import Img3dDatamanagerConfig
from img3d_methods.training.pipeline import Img3dPipelineConfig

prepare_command()
explain_wrong_options()
provide_ffmpeg()
name_callers_only()
colors_for_texture()
scene_box_for_volume()

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

img3d_ngp = MethodSpecification(
    config=Img3dNerfTrainerConfig(
        method_name="img3d-ngp",
        vis="viewer",
        optimizers=nerf_optimizers(tables_lr_final=5e-3, networks_lr_final=2e-3),
        pipeline=Img3dPipelineConfig(
            # A radiance field does not use seed points.
            datamanager=Img3dNerfDatamanagerConfig(dataparser=replace(img3d_photos.config, triangulate_points=False)),
            model=Img3dNerfModelConfig(bounds="auto", num_levels=12, finest_resolution=1024),
        ),
    ),
    description=description(
        "img3d-ngp",
        "Instant-NGP's radiance field from photos or a video, on a CPU or a GPU; objects without background lie in a "
        "box. Camera poses are found if not given.",
    ),
)

img3d_nerf = MethodSpecification(
    config=Img3dNerfTrainerConfig(
        method_name="img3d-nerf",
        vis="viewer",
        pipeline=Img3dPipelineConfig(
            datamanager=Img3dNerfDatamanagerConfig(dataparser=replace(img3d_photos.config, triangulate_points=False)),
            model=Img3dNerfModelConfig(appearance=True),
        ),
    ),
    description=description(
        "img3d-nerf",
        "A radiance field from photos or a video, on a CPU or a GPU; each photo may have its own exposure. Camera "
        "poses are found if not given. Slower than img3d-splat.",
    ),
)

img3d_object_views = MethodSpecification(
    config=Img3dSplatTrainerConfig(
        method_name="img3d-object-views",
        vis="viewer",
        pipeline=Img3dSplatPipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_single_image.config),
            model=Img3dSplatModelConfig(
                preset="fast", appearance="off", sky=False, guess_depths=False
            ),  # grey seed points, no surroundings
        ),
    ),
    description=description(
        "img3d-object-views",
        "Gaussian splats of an object from one image: a network generates views of its other sides to train on.",
    ),
)

img3d_mesh = MethodSpecification(
    config=Img3dMeshTrainerConfig(
        method_name="img3d-mesh",
        vis="viewer",
        pipeline=Img3dPipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_mesh_data.config),
            model=Img3dMeshModelConfig(),
        ),
    ),
    description=description(
        "img3d-mesh", "A mesh file as a run, without training, to view, render, evaluate and convert."
    ),
)

img3d_mvs = MethodSpecification(
    config=Img3dMvsTrainerConfig(
        method_name="img3d-mvs",
        vis="viewer",
        pipeline=Img3dMvsPipelineConfig(
            # Photos as large as the texture needs; sparse points only tell which photos overlap, and where.
            datamanager=Img3dMvsDatamanagerConfig(
                dataparser=replace(img3d_photos.config, max_image_size=1600, seed_points="triangulated")
            ),
            model=Img3dMvsModelConfig(),
        ),
    ),
    description=description(
        "img3d-mvs",
        "A textured mesh from photos or a video by multi-view stereo, on a CPU; camera poses are found if not given.",
    ),
)

img3d_remote = MethodSpecification(
    config=Img3dRemoteTrainerConfig(
        method_name="img3d-remote",
        vis="viewer",
        pipeline=Img3dRemotePipelineConfig(
            datamanager=Img3dDatamanagerConfig(dataparser=img3d_remote_data.config),
            model=Img3dMeshModelConfig(),
        ),
    ),
    description=description(
        "img3d-remote",
        "A mesh that a service on the network, such as Meshy or Tripo, makes of pictures or of --pipeline.prompt; it "
        "asks before it sends or costs anything.",
    ),
)


def __getattr__(name: str) -> Any:
    """`img3d_NAME`: the method of the generator NAME, ours or another package's; `img3d_object`: of the best one.

    Another package's method needs no code: img3d-NAME = "img3d_methods.specs:img3d_NAME" among its entry points does.
    """
    if not name.startswith("img3d_"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return method_of(name.removeprefix("img3d_").replace("_", "-"))
