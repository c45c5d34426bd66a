# SPDX-License-Identifier: Apache-2.0
"""Entry points: the data parsers that Nerfstudio finds."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.single_image import Img3dSingleImageDataParserConfig

img3d_photos = DataParserSpecification(
    config=Img3dPhotosDataParserConfig(),
    description="Photos or a video; poses are solved for, unless the folder brings them in any known format.",
)

img3d_single_image = DataParserSpecification(
    config=Img3dSingleImageDataParserConfig(),
    description="One image of an object, and generated views of its other sides.",
)
