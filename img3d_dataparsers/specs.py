# SPDX-License-Identifier: Apache-2.0
"""Entry points: the data parsers that Nerfstudio finds."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

img3d_photos = DataParserSpecification(
    config=Img3dPhotosDataParserConfig(),
    description="Photos or a video; poses are solved for, unless the folder has them in a supported format.",
)
