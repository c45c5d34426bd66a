# SPDX-License-Identifier: Apache-2.0
"""Reading the triangles of USDZ with Pixar's USD library: at the earliest time, in their materials' base colours."""

# pyright: reportAttributeAccessIssue=false
# pxr is compiled, and has no type stubs.

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from img3d_assets.axes import UpAxis
from img3d_assets.color_values import srgb_of_linear
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.joining import joined
from img3d_assets.mesh_formats.textures import decoded
from img3d_base.errors import InputError
from img3d_base.foreign_files import open_zip, reason, zip_member

MAX_MEMBER_BYTES = 1 << 30
GREY = 0.18
"""USD's default colour, linear."""


def read(path: Path) -> tuple[Mesh, UpAxis]:
    """Reads all triangles of the stage; returns them and the stage's up axis.

    Raises:
        InputError: It is not a USDZ file, damaged, or has no faces.
    """
    from pxr import Tf, Usd, UsdGeom

    with open_zip(path):
        pass
    try:
        stage = Usd.Stage.Open(str(path))
        up: UpAxis = "y" if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y else "z"
        places = UsdGeom.XformCache(Usd.TimeCode.EarliestTime())
        textures: dict[str, UInt8[np.ndarray, "H W 3"]] = {}
        surfaces = [prim for prim in stage.Traverse(Usd.TraverseInstanceProxies()) if prim.IsA(UsdGeom.Mesh)]
        parts = [_part(prim, np.array(places.GetLocalToWorldTransform(prim)), path, textures) for prim in surfaces]
    except Tf.ErrorException as error:
        raise InputError(f"{path} is not a valid USDZ file: {reason(error)}") from error
    parts = [part for part in parts if part is not None]
    if not parts:
        raise InputError(f"{path} has no faces")
    return joined(parts), up


def _part(
    prim: Any, place: Float[np.ndarray, "4 4"], path: Path, textures: dict[str, UInt8[np.ndarray, "_ _ 3"]]
) -> Mesh | None:
    """Converts one mesh, with a vertex per corner, as texture coordinates may be per corner. None without faces."""
    from pxr import Usd, UsdGeom

    surface, time = UsdGeom.Mesh(prim), Usd.TimeCode.EarliestTime()
    points = np.array(surface.GetPointsAttr().Get(time) or [], np.float64).reshape(-1, 3)
    counts = np.array(surface.GetFaceVertexCountsAttr().Get(time) or [], np.int64)
    indices = np.array(surface.GetFaceVertexIndicesAttr().Get(time) or [], np.int64)
    if len(counts) == 0 or len(points) == 0 or surface.ComputeVisibility(time) == UsdGeom.Tokens.invisible:
        return None
    if counts.min() < 0 or counts.sum() != len(indices) or indices.min() < 0 or indices.max() >= len(points):
        raise InputError(f"{path} is damaged: faces refer to vertices that do not exist")
    faces = _fans(counts)
    if surface.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded or np.linalg.det(place[:3, :3]) < 0:
        faces = faces[:, ::-1]
    vertices = points[indices] @ place[:3, :3] + place[3, :3]  # USD's vectors are rows
    primvars = UsdGeom.PrimvarsAPI(prim)
    color, texture_name, uv_name = _appearance(prim, path)
    mesh = Mesh(vertices, faces, np.tile(srgb_of_linear(np.array(color)), (len(vertices), 1)).astype(np.float32))
    uvs = _of_corners(primvars.GetPrimvar(uv_name), indices, counts, len(points)) if texture_name else None
    shown_colors = _of_corners(primvars.GetPrimvar("displayColor"), indices, counts, len(points))
    if uvs is not None and texture_name is not None:
        if texture_name not in textures:
            with open_zip(path) as package:
                contents = zip_member(package, texture_name, MAX_MEMBER_BYTES)
            textures[texture_name] = decoded(contents, f"{texture_name!r} in {path}")
        mesh.uvs, mesh.texture = uvs.astype(np.float32), textures[texture_name]
    elif shown_colors is not None:
        mesh.colors = srgb_of_linear(shown_colors).astype(np.float32)
    return mesh


def _fans(counts: Int64[np.ndarray, "P"]) -> Int64[np.ndarray, "F 3"]:
    """Triangulates polygons as fans around their first corners."""
    triangles = np.maximum(counts - 2, 0)
    of_face = np.repeat(np.arange(len(counts)), triangles)
    first = (np.cumsum(counts) - counts)[of_face]
    within = np.arange(len(of_face)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([first, first + within + 1, first + within + 2], axis=1)


def _of_corners(
    primvar: Any, indices: Int64[np.ndarray, "C"], counts: Int64[np.ndarray, "P"], num_points: int
) -> Float[np.ndarray, "C D"] | None:
    """A primvar's value at each corner; None if it is missing or its size does not match."""
    from pxr import Usd

    if not primvar or not primvar.HasValue():
        return None
    values = np.array(primvar.ComputeFlattened(Usd.TimeCode.EarliestTime()), np.float64)
    kind = str(primvar.GetInterpolation())
    if kind == "constant" and len(values) >= 1:
        return np.repeat(values[:1], len(indices), axis=0)
    if kind == "uniform" and len(values) == len(counts):
        return np.repeat(values, counts, axis=0)
    if kind in ("vertex", "varying") and len(values) == num_points:
        return values[indices]
    return values if kind == "faceVarying" and len(values) == len(indices) else None


def _appearance(prim: Any, path: Path) -> tuple[list[float], str | None, str]:
    """A surface's linear colour, its texture's name in the package, and the primvar of its texture coordinates."""
    from pxr import UsdShade

    color, texture_name, uv_name = [GREY] * 3, None, "st"
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    shader = material.ComputeSurfaceSource()[0] if material else None
    diffuse = shader.GetInput("diffuseColor") if shader else None
    if not diffuse:
        return color, texture_name, uv_name
    sources = diffuse.GetConnectedSources()[0]
    if not sources:
        return list(diffuse.Get() or color), texture_name, uv_name
    texture = UsdShade.Shader(sources[0].source.GetPrim())
    file = texture.GetInput("file")
    if file and file.Get() is not None:
        asset = file.Get()
        # The library resolves to "package.usdz[0/texture.png]".
        resolved = str(asset.resolvedPath).rpartition("[")[2].rstrip("]")
        texture_name = resolved or posixpath.normpath(asset.path)
        coordinates = texture.GetInput("st")
        reader = coordinates.GetConnectedSources()[0] if coordinates else None
        if reader:
            named = UsdShade.Shader(reader[0].source.GetPrim()).GetInput("varname")
            uv_name = str(named.Get() or uv_name) if named else uv_name
    return color, texture_name, uv_name
