# SPDX-License-Identifier: Apache-2.0
"""Reading the triangles of .glb and .gltf files: placed by the nodes, in their base colours.

Lights, skins and animations are ignored: meshes are in their rest pose, with unlit colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from img3d_assets.color_values import srgb_of_linear
from img3d_assets.gltf_arrays import GltfArrays, read_gltf
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.joining import joined, tinted
from img3d_assets.mesh_formats.textures import decoded
from img3d_base.errors import InputError
from img3d_base.foreign_files import check_expansion, shown

TRIANGLES, STRIP, FAN = 4, 5, 6
"""Modes of a primitive with triangles; the others are points and lines."""
MAX_PARTS = 100_000
NOT_READ = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
SPECULAR = "KHR_materials_pbrSpecularGlossiness"
"""An older extension for materials, with base colours of its own."""


def read(path: Path) -> Mesh:
    """Reads all triangles of the file's scene, y up.

    Raises:
        InputError: It is not a glTF file, damaged, without triangles, or compressed.
    """
    reader = _MeshReader(read_gltf(path))
    return joined(reader.parts())


def has_triangles(path: Path) -> bool:
    """Whether any mesh of the file has triangles.

    Raises:
        InputError: It is not a glTF file.
    """
    meshes = read_gltf(path).scene.get("meshes", [])
    return any(each.get("mode", TRIANGLES) in (TRIANGLES, STRIP, FAN) for mesh in meshes for each in mesh["primitives"])


class _MeshReader:
    def __init__(self, arrays: GltfArrays) -> None:
        self.arrays, self.scene, self.path = arrays, arrays.scene, arrays.path
        self._images: dict[int, UInt8[np.ndarray, "H W 3"]] = {}
        self._tinted: dict[tuple[Any, ...], UInt8[np.ndarray, "H W 3"]] = {}

    def parts(self) -> list[Mesh]:
        """The primitives, transformed by the nodes that place them, in the axes of the file."""
        parts, known, placed = [], {}, 0
        for mesh, matrix in self.arrays.placed_meshes():
            if mesh not in known:
                known[mesh] = [self._part(each) for each in self.scene["meshes"][mesh]["primitives"]]
            for part in filter(None, known[mesh]):
                placed += part.vertices.nbytes + part.faces.nbytes
                check_expansion(placed, self.arrays.size, f"{self.path}: its placed meshes")
                parts.append(_placed(part, matrix))
            if len(parts) > MAX_PARTS:
                raise InputError(f"{self.path} has more than {MAX_PARTS:,} parts: it is damaged")
        if not parts:
            raise InputError(f"{self.path} has no triangles in its scene")
        return parts

    def _part(self, primitive: dict[str, Any]) -> Mesh | None:
        """A primitive in its own coordinates; None for points and lines."""
        if primitive.get("mode", TRIANGLES) not in (TRIANGLES, STRIP, FAN) or "POSITION" not in primitive["attributes"]:
            return None
        for name in NOT_READ:
            if name in primitive.get("extensions", {}):
                raise InputError(
                    f"{self.path} is compressed with {name}, which is not supported: export it without compression"
                )
        vertices = self._attribute(primitive, "POSITION", 3).astype(np.float64)
        num = len(vertices)
        faces = self._faces(primitive, num)
        material = self._material(primitive)
        factor, texture_info = _base_color(material)
        colors = np.broadcast_to(factor, (num, 3))
        if "COLOR_0" in primitive["attributes"]:
            colors = colors * self._attribute(primitive, "COLOR_0", num=num)[:, :3]
        part = Mesh(vertices, faces, srgb_of_linear(colors).astype(np.float32))
        if texture_info is None:
            return part
        transform = texture_info.get("extensions", {}).get("KHR_texture_transform", {})
        name = f"TEXCOORD_{transform.get('texCoord', texture_info.get('texCoord', 0))}"
        if name not in primitive["attributes"]:
            return part
        u, v = _transformed(self._attribute(primitive, name, 2, num), transform).T
        part.uvs = np.stack([u, 1 - v], axis=1).astype(np.float32)
        if not np.isfinite(part.uvs).all():
            raise InputError(f"{self.path} has texture coordinates that are not finite numbers")
        part.texture = self._texture(texture_info["index"], factor)
        return part

    def _attribute(
        self, primitive: dict[str, Any], name: str, width: int | None = None, num: int | None = None
    ) -> Float[np.ndarray, "N C"]:
        found = self.arrays.values(self.scene["accessors"][primitive["attributes"][name]])
        if (width is not None and found.shape[1] != width) or (num is not None and len(found) != num):
            raise InputError(
                f"{self.path} is damaged: {shown(name)} of a mesh has {len(found):,} rows of {found.shape[1]} numbers"
            )
        return found

    def _faces(self, primitive: dict[str, Any], num: int) -> Int64[np.ndarray, "F 3"]:
        if "indices" in primitive:
            indices = self.arrays.stored(self.scene["accessors"][primitive["indices"]])[:, 0].astype(np.int64)
        else:
            indices = np.arange(num)
        if indices.min() < 0 or indices.max() >= num:
            raise InputError(f"{self.path} is damaged: faces refer to vertices that do not exist")
        mode = primitive.get("mode", TRIANGLES)
        if mode == TRIANGLES:
            return indices[: len(indices) // 3 * 3].reshape(-1, 3)
        if mode == FAN:
            return np.stack([np.full(len(indices) - 2, indices[0]), indices[1:-1], indices[2:]], axis=1)
        faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
        faces[1::2, :2] = faces[1::2, 1::-1]  # every other triangle of a strip has the opposite winding
        return faces

    def _material(self, primitive: dict[str, Any]) -> dict[str, Any]:
        return self.scene["materials"][primitive["material"]] if "material" in primitive else {}

    def _texture(self, index: int, factor: Float[np.ndarray, "3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A texture multiplied by the material's linear colour."""
        texture = self.scene["textures"][index]
        source = texture.get("source", texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
        if source is None:
            raise InputError(
                f"{self.path} has textures in a format that is not supported, such as KTX2: export it with PNG or JPEG"
            )
        key = (source, *factor.tolist())
        if key not in self._tinted:
            if source not in self._images:
                self._images[source] = self._image(source)
            self._tinted[key] = tinted(self._images[source], factor.astype(np.float32))
        return self._tinted[key]

    def _image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        image, what = self.scene["images"][index], f"Texture {index} of {self.path}"
        if "bufferView" in image:
            return decoded(bytes(self.arrays.view(image["bufferView"], what)), what)
        return decoded(self.arrays.resource(image["uri"]), what)


def _base_color(material: dict[str, Any]) -> tuple[Float[np.ndarray, "3"], dict[str, Any] | None]:
    """A material's linear colour and its texture."""
    surface = material.get("pbrMetallicRoughness", {})
    factor, texture = surface.get("baseColorFactor"), surface.get("baseColorTexture")
    older = material.get("extensions", {}).get(SPECULAR, {})
    factor = older.get("diffuseFactor") if factor is None else factor
    texture = older.get("diffuseTexture") if texture is None else texture
    return np.asarray([1, 1, 1] if factor is None else factor[:3], np.float64), texture


def _transformed(uvs: Float[np.ndarray, "N 2"], transform: dict[str, Any]) -> Float[np.ndarray, "N 2"]:
    """Applies KHR_texture_transform: scale, then rotation, then offset."""
    angle = float(transform.get("rotation", 0))
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return uvs * transform.get("scale", [1, 1]) @ rotation.T + transform.get("offset", [0, 0])


def _placed(part: Mesh, matrix: Float[np.ndarray, "4 4"]) -> Mesh:
    faces = part.faces
    if np.linalg.det(matrix[:3, :3]) < 0:  # a reflection reverses the winding
        faces = faces[:, ::-1]
    return Mesh(part.vertices @ matrix[:3, :3].T + matrix[:3, 3], faces, part.colors, part.uvs, part.texture)
