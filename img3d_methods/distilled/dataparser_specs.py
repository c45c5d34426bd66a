# SPDX-License-Identifier: Apache-2.0
"""Entry point: the data parser of objects that a guidance shapes. It is separate from the methods because Nerfstudio
loads it in the middle of an import that they need."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_methods.distilled.views import Img3dDistilledDataParserConfig

img3d_distilled = DataParserSpecification(
    config=Img3dDistilledDataParserConfig(),
    description="One image of an object that a guidance shapes, or only cameras around it.",
)
