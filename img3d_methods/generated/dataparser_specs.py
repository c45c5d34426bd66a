# SPDX-License-Identifier: Apache-2.0
"""Entry points: the data parsers of generated methods. They are separate from specs.py because Nerfstudio loads it in
the middle of an import that the methods need."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_methods.generated.field_dataparser import Img3dGeneratedFieldDataParserConfig
from img3d_methods.generated.gaussians_dataparser import Img3dGeneratedGaussiansDataParserConfig
from img3d_methods.generated.mesh_dataparser import Img3dGeneratedMeshDataParserConfig
from img3d_methods.generated.remote_dataparser import Img3dRemoteDataParserConfig
from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig

img3d_single_image = DataParserSpecification(
    config=Img3dSingleImageDataParserConfig(),
    description="One image of an object, and generated views of its other sides.",
)

img3d_generated_mesh = DataParserSpecification(
    config=Img3dGeneratedMeshDataParserConfig(),
    description="A mesh that a generator makes of an image, views or a text, seen from all around.",
)

img3d_generated_field = DataParserSpecification(
    config=Img3dGeneratedFieldDataParserConfig(),
    description="A radiance field that a generator makes of an image, views or a text, seen from all around.",
)

img3d_generated_gaussians = DataParserSpecification(
    config=Img3dGeneratedGaussiansDataParserConfig(),
    description="Gaussians that a generator makes of one image or several, seen from all around.",
)

img3d_remote = DataParserSpecification(
    config=Img3dRemoteDataParserConfig(),
    description="A mesh that a service on the network makes of pictures or a text, seen from all around.",
)
