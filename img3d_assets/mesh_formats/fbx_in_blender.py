# SPDX-License-Identifier: Apache-2.0
"""The part of `fbx` that runs inside Blender: converts arrays in a folder to an FBX file, or an FBX file to GLB."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from img3d_assets.mesh_formats.fbx import ARRAYS, CONVERTED, OUTPUT, TEXTURE


def read(folder: Path) -> None:
    """Converts the FBX file in a folder to GLB."""
    import bpy  # pyright: ignore[reportMissingImports]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.fbx(filepath=str(folder / OUTPUT), use_anim=False)
    bpy.ops.export_scene.gltf(
        filepath=str(folder / CONVERTED), export_format="GLB", export_yup=True, export_animations=False
    )


def write(folder: Path) -> None:
    """Converts the arrays in a folder to an FBX file."""
    import bpy  # pyright: ignore[reportMissingImports]

    bpy.ops.wm.read_factory_settings(use_empty=True)
    arrays = np.load(folder / ARRAYS)
    surface = bpy.data.meshes.new("mesh")
    surface.from_pydata(arrays["vertices"].tolist(), [], arrays["faces"].tolist())
    surface.polygons.foreach_set("use_smooth", np.ones(len(arrays["faces"]), bool))
    colors = surface.color_attributes.new("colors", "BYTE_COLOR", "POINT")
    colors.data.foreach_set("color_srgb", np.insert(arrays["colors"], 3, 1, axis=1).astype(np.float32).ravel())
    material = bpy.data.materials.new("textured" if "corner_uvs" in arrays else "colored")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    principled = next(node for node in nodes if node.type == "BSDF_PRINCIPLED")
    principled.inputs["Roughness"].default_value = 1.0
    if "corner_uvs" in arrays:
        surface.uv_layers.new(name="uv").data.foreach_set("uv", arrays["corner_uvs"].ravel())
    if (folder / TEXTURE).exists():
        image = nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(folder / TEXTURE))
        material.node_tree.links.new(image.outputs["Color"], principled.inputs["Base Color"])
    surface.materials.append(material)
    surface.update()
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("mesh", surface))
    bpy.ops.export_scene.fbx(
        filepath=str(folder / OUTPUT),
        object_types={"MESH"},
        apply_scale_options="FBX_SCALE_UNITS",  # keeps metres: without it, other programs see a factor of 100
        bake_space_transform=True,
        mesh_smooth_type="OFF",
        path_mode="COPY",
        embed_textures=True,
        bake_anim=False,
    )


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]))
