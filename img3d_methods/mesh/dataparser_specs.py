# SPDX-License-Identifier: Apache-2.0
"""Entry points: the data parser of meshes. It is separate from specs.py because Nerfstudio loads it in the middle of
an import that the methods need."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from img3d_methods.mesh.dataparser import Img3dMeshDataParserConfig

img3d_mesh = DataParserSpecification(
    config=Img3dMeshDataParserConfig(),
    description="A mesh file (OBJ, glTF, PLY, STL, USDZ, FBX), seen from all around.",
)
