# SPDX-License-Identifier: Apache-2.0
"""Reading OBJ, PLY and STL with trimesh: all triangles, in the axes of the file."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from trimesh.resolvers import Resolver

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.joining import joined
from img3d_base.errors import InputError, some_names, warn
from img3d_base.foreign_files import check_claim, inside, legible, open_regular, read_bytes

GREY = 0.7
"""Colour, in all channels, of parts without a colour of their own."""
MAX_HEADER_BYTES = 1 << 20
PLY_ELEMENT = re.compile(rb"^element[ \t]+\w+[ \t]+(\d+)[ \t\r]*$", re.MULTILINE)


def read(path: Path) -> Mesh:
    """Reads all triangles of the file; larger polygons are triangulated.

    Raises:
        InputError: The file cannot be read, or has no triangles.
    """
    import trimesh

    contents = read_bytes(path)
    if path.suffix.lower() == ".ply":
        check_ply_counts(contents, path)
    files = _FilesBeside(path)
    scene = trimesh.load_scene(io.BytesIO(contents), file_type=path.suffix[1:].lower(), resolver=files, process=False)
    pixels: dict[int, UInt8[np.ndarray, "H W 3"]] = {}
    shapes: Iterable[Any] = scene.dump()
    parts = [_part(shape, pixels) for shape in shapes if isinstance(shape, trimesh.Trimesh) and len(shape.faces) > 0]
    if files.missing:
        warn(f"{path} names files that cannot be read: {some_names(files.missing)}; parts that need them are grey.")
    if not parts:
        raise InputError(f"{path} has no faces")
    return joined(parts)


def has_faces(path: Path) -> bool:
    """Whether a PLY file has faces."""
    with open_regular(path) as file:
        header = file.read(MAX_HEADER_BYTES).partition(b"end_header")[0]
    return re.search(rb"^element[ \t]+(face|tristrips)[ \t]+0*[1-9]", header, re.MULTILINE) is not None


def check_ply_counts(contents: bytes, path: Path) -> None:
    """Raises InputError if a PLY claims more rows than it has bytes: trimesh would allocate the memory."""
    header, end, _ = contents[:MAX_HEADER_BYTES].partition(b"end_header")
    if not end:
        raise InputError(f"{path} is not a PLY file, or its header is cut off")
    available = len(contents) - len(header)
    for count in PLY_ELEMENT.findall(header):
        if len(count) > 18:
            raise InputError(f"{path} is damaged: it claims to have {legible(count.decode())} rows")
        check_claim(int(count), available, f"{path}: its {int(count):,} rows")


class _FilesBeside(Resolver):
    """Resolves files that a mesh file names, if they are in its folder or below; records the others in `missing`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.missing: list[str] = []

    def get(self, key: str) -> bytes:
        name = key.strip().replace("\\", "/")
        try:
            return read_bytes(inside(self.path, name))
        except InputError:
            # Exporters write absolute paths of the author's machine: the file is often here under its bare name.
            try:
                return read_bytes(inside(self.path, name.rpartition("/")[2]))
            except InputError as error:
                self.missing.append(legible(key))
                raise FileNotFoundError(str(error)) from error

    def keys(self) -> list[str]:
        return sorted(os.listdir(self.path.parent))

    def write(self, name: str, data: Any) -> None:
        raise NotImplementedError("this resolver only reads")

    def namespaced(self, namespace: str) -> Resolver:
        return self


def _part(shape: Any, pixels: dict[int, UInt8[np.ndarray, "H W 3"]]) -> Mesh:
    """Converts one geometry.

    Args:
        shape: trimesh's geometry.
        pixels: Cache of textures by the identity of trimesh's picture, so that parts that share one share the array.
    """
    from trimesh.visual import TextureVisuals

    vertices, faces = np.asarray(shape.vertices, np.float64), np.asarray(shape.faces, np.int64)
    mesh = Mesh(vertices, faces, np.full((len(vertices), 3), GREY, np.float32))
    visual = shape.visual
    if isinstance(visual, TextureVisuals):
        own = shape.vertex_attributes.get("color")
        material: Any = visual.material
        image = getattr(material, "image", None)
        if image is not None and visual.uv is not None:
            if id(image) not in pixels:
                pixels[id(image)] = np.array(image.convert("RGB"))
            mesh.uvs, mesh.texture = np.asarray(visual.uv, np.float32), pixels[id(image)]
        elif own is not None and len(own) == len(vertices):
            mesh.colors = _in_unit(own)
        elif getattr(material, "diffuse", None) is not None:
            mesh.colors = np.tile(_in_unit(np.asarray(material.diffuse))[:3], (len(vertices), 1))
    elif visual.kind == "vertex":
        mesh.colors = _in_unit(visual.vertex_colors)[:, :3]
    elif visual.kind == "face":
        mesh = Mesh(vertices[faces.reshape(-1)], np.arange(faces.size).reshape(-1, 3), mesh.colors)
        mesh.colors = np.repeat(_in_unit(visual.face_colors)[:, :3], 3, axis=0)
    return mesh


def _in_unit(colors: Any) -> Any:
    """Converts colours, bytes or floats in [0, 1], to float32 in [0, 1], without alpha."""
    colors = np.asarray(colors)[..., :3]
    return (colors / 255 if colors.dtype.kind in "iu" else colors).astype(np.float32)
