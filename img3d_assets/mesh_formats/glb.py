# SPDX-License-Identifier: Apache-2.0
"""Binary glTF 2.0, written by trimesh; for the web, game engines and nearly every viewer.

The colours come from photos and include the light, which KHR_materials_unlit says. Programs that do not know this
extension show a matt material.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from img3d_assets.color_values import linear_of_srgb
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals

UNLIT = "KHR_materials_unlit"
OWN_COLOR = "_COLOR_0"
"""Colours as a custom attribute, whose name trimesh requires to begin with an underscore: as colours it would write
them with 8 bits, too few for linear values."""


def glb(mesh: Mesh, brightness: float = 1.0) -> bytes:
    """The content of a .glb file.

    Args:
        mesh: With y up.
        brightness: What a viewer multiplies linear colours by; more than 1 is against the specification, though
            three.js takes it.
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
        doubleSided=True,  # surfaces with holes are visible from behind too
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
    return export_glb(shape, include_normals=True, tree_postprocessor=partial(_finish, brightness))


def _finish(brightness: float, tree: dict[str, Any]) -> None:
    """Adds what trimesh cannot express."""
    tree["asset"]["generator"] = "img3d, trimesh"
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), UNLIT]
    for material in tree["materials"]:
        material["extensions"] = {UNLIT: {}}
        if brightness != 1:
            material["pbrMetallicRoughness"]["baseColorFactor"] = [brightness] * 3 + [1.0]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            if OWN_COLOR in attributes:
                attributes["COLOR_0"] = attributes.pop(OWN_COLOR)
