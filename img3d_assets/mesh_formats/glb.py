# SPDX-License-Identifier: Apache-2.0
"""A mesh as binary glTF 2.0, written by trimesh; for the web, game engines and nearly every viewer.

Colours are those of photos, with the light in them: KHR_materials_unlit says so. What does not know it shows a matt
material.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from img3d_assets.color_values import linear_of_srgb
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals

UNLIT = "KHR_materials_unlit"
OWN_COLOR = "_COLOR_0"
"""trimesh writes colours with 8 bits, too few for linear ones; its name for attributes of our own has a line ahead."""


def glb(mesh: Mesh) -> bytes:
    """The file.

    Args:
        mesh: With y up.
    """
    import trimesh
    from trimesh.exchange.gltf import export_glb
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    material = PBRMaterial(
        name="textured" if mesh.texture is not None else "colored",
        baseColorFactor=[255, 255, 255, 255],
        baseColorTexture=None if mesh.texture is None else Image.fromarray(mesh.texture),
        metallicFactor=0.0,
        roughnessFactor=1.0,
        doubleSided=True,  # a surface with holes is seen from behind too
    )
    attributes: dict[str, npt.ArrayLike] = {}
    if mesh.texture is None:
        attributes[OWN_COLOR] = linear_of_srgb(mesh.colors).astype(np.float32)
    shape = trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=vertex_normals(mesh),
        visual=TextureVisuals(uv=mesh.uvs, material=material),
        vertex_attributes=attributes,
        process=False,
    )
    return export_glb(shape, include_normals=True, tree_postprocessor=_finish)


def _finish(tree: dict[str, Any]) -> None:
    """What trimesh has no words for."""
    tree["asset"]["generator"] = "img3d, trimesh"
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), UNLIT]
    for material in tree["materials"]:
        material["extensions"] = {UNLIT: {}}
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            if OWN_COLOR in attributes:
                attributes["COLOR_0"] = attributes.pop(OWN_COLOR)
