# SPDX-License-Identifier: Apache-2.0
"""Entry points: the data parser of generated methods. It is separate from specs.py because Nerfstudio loads it in
the middle of an import that the methods need."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig

img3d_single_image = DataParserSpecification(
    config=Img3dSingleImageDataParserConfig(),
    description="One image of an object, and generated views of its other sides.",
)
