# SPDX-License-Identifier: Apache-2.0
"""Reading and writing mesh files of every format, by ending.

A run's meshes have z up. They are rotated for formats that prescribe another up axis or whose readers expect one; PLY
and STL keep coordinates as they are.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from img3d_assets.axes import TO_Y_UP, UpAxis
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats import fbx, glb, gltf_reading, obj, trimesh_reading, usdz, usdz_reading
from img3d_assets.mesh_geometry import check_mesh, welded
from img3d_assets.quantised import bytes_of
from img3d_base import output_files
from img3d_base.errors import InputError
from img3d_base.foreign_files import MALFORMED, reason, require_regular
from img3d_base.output_files import written_whole


def _glb(mesh: Mesh, path: Path) -> None:
    path.write_bytes(glb.glb(mesh))


def _stl(mesh: Mesh, path: Path) -> None:
    """Writes a binary STL."""
    import trimesh
    from trimesh.exchange.stl import export_stl

    path.write_bytes(export_stl(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)))


def _ply(mesh: Mesh, path: Path) -> None:
    """Writes a binary PLY with vertex colours."""
    import trimesh
    from trimesh.exchange.ply import export_ply

    kept, of_vertex = welded(mesh)
    colors = bytes_of(mesh.colors[kept])
    path.write_bytes(
        export_ply(
            trimesh.Trimesh(mesh.vertices[kept], of_vertex[mesh.faces], vertex_colors=colors, process=False),
            vertex_normal=False,
        )
    )


@dataclass
class Format:
    """How files of one ending are written."""

    write: Callable[[Mesh, Path], None]
    y_up: bool
    textured: bool
    """Whether the format can hold a texture."""


OBJ = ".obj"
FORMATS: dict[str, Format] = {
    ".glb": Format(_glb, y_up=True, textured=True),
    ".usdz": Format(usdz.write, y_up=True, textured=True),
    ".fbx": Format(fbx.write, y_up=True, textured=True),
    ".ply": Format(_ply, y_up=False, textured=False),
    ".stl": Format(_stl, y_up=False, textured=False),
}
"""All formats except OBJ, which consists of several files."""


READ = (".obj", ".glb", ".gltf", ".ply", ".stl", ".usdz", ".fbx")
"""Endings of the formats that can be read."""


def read_mesh(path: Path) -> tuple[Mesh, UpAxis | None]:
    """Reads all triangles of a mesh file as one mesh.

    Args:
        path: The file; its ending determines the format. Files that an OBJ or a .gltf names are looked for beside it.

    Returns:
        The mesh, and the axis that points up; None if the format does not define one.

    Raises:
        InputError: The format is not supported, or the file is damaged or holds no triangles.
    """
    ending = require_regular(path).suffix.lower()
    if ending not in READ:
        raise InputError(f"Cannot read a mesh from {path}: the file name has to end in one of {', '.join(READ)}")
    up: UpAxis | None = None if ending in (".ply", ".stl") else "y"
    try:
        with np.errstate(all="ignore"):  # non-finite values are refused below
            if ending == ".usdz":
                mesh, up = usdz_reading.read(path)
            elif ending == ".fbx":
                mesh = fbx.read(path)
            elif ending in (".glb", ".gltf"):
                mesh = gltf_reading.read(path)
            else:
                mesh = trimesh_reading.read(path)
    except MemoryError as error:
        raise InputError(f"{path} is too large for this computer's memory") from error
    except MALFORMED as error:
        raise InputError(f"{path} cannot be read: it is damaged ({reason(error)})") from error
    try:
        check_mesh(mesh)
    except InputError as error:
        raise InputError(f"{path} cannot be used. {error}") from error
    return mesh, up


def is_mesh(path: Path) -> bool:
    """Whether a file holds a mesh rather than splats or points.

    Raises:
        InputError: It cannot be read, or is damaged.
    """
    ending = path.suffix.lower()
    if ending not in READ:
        return False
    if ending == ".ply":
        return trimesh_reading.has_faces(path)
    try:
        return gltf_reading.has_triangles(path) if ending in (".glb", ".gltf") else True
    except MALFORMED as error:
        raise InputError(f"{path} cannot be read: it is damaged ({reason(error)})") from error


def holds_texture(path: Path) -> bool:
    """Whether the format of this file can hold a texture."""
    return path.suffix.lower() == OBJ or FORMATS[path.suffix.lower()].textured


def check_output(path: Path, force: bool) -> None:
    """Raises InputError if the file may not be written; to be called before any long work."""
    ending = path.suffix.lower()
    output_files.check_output(path, (OBJ, *FORMATS), "a mesh", force)
    for file in _beside(path) if ending == OBJ else ():
        output_files.check_free(file, force)
    if ending == ".fbx":
        fbx.check_installed()


def write_mesh(mesh: Mesh, path: Path, up: UpAxis | None = "z") -> None:
    """Writes a mesh file atomically in the format of its ending; an OBJ with its MTL and PNG beside it.

    Args:
        mesh: The mesh. Its texture is written if the format can hold one, otherwise its vertex colours.
        path: The file. Missing folders are created.
        up: The axis that points up in `mesh`; None if unknown: then coordinates are written as they are.

    Raises:
        InputError: The file cannot be written, or the mesh is empty or invalid.
    """
    check_mesh(mesh)
    ending = path.suffix.lower()
    if up is not None and (ending == OBJ or FORMATS[ending].y_up):
        mesh = replace(mesh, vertices=mesh.vertices @ TO_Y_UP[up].T)
    if ending == OBJ:
        _write_obj(mesh, path)
    else:
        with written_whole(path) as temporary:
            FORMATS[ending].write(mesh, temporary)


def _write_obj(mesh: Mesh, path: Path) -> None:
    mtl, png = _beside(path)
    with contextlib.ExitStack() as stack:
        # Contexts exit in reverse order, so that the OBJ, which names the others, is renamed last.
        geometry = stack.enter_context(written_whole(path))
        if mesh.texture is None:
            obj.write(mesh, geometry, None)
            return
        material = stack.enter_context(written_whole(mtl))
        texture = stack.enter_context(written_whole(png))
        Image.fromarray(mesh.texture).save(texture, format="png")
        material.write_text(obj.material(png.name), encoding="utf-8")
        obj.write(mesh, geometry, mtl.name)


def _beside(path: Path) -> tuple[Path, Path]:
    """Paths of an OBJ's material and texture; the names have no spaces, which many programs cannot read."""
    stem = re.sub(r"[^\w.-]+", "_", path.stem)
    return path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")
