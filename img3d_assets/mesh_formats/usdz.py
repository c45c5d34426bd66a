# SPDX-License-Identifier: Apache-2.0
"""USDZ, written with Pixar's USD library: iPhones and Macs show it natively, also in augmented reality."""

# pyright: reportAttributeAccessIssue=false
# pxr is compiled, and has no type stubs.

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from img3d_assets.color_values import linear_of_srgb
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_geometry import vertex_normals, welded
from img3d_base.foreign_files import reason

TEXTURE = "texture.png"


def write(mesh: Mesh, path: Path) -> None:
    """Writes the package.

    Args:
        mesh: The mesh, y up, in metres.
        path: The file.

    Raises:
        OSError: It cannot be written.
    """
    from pxr import Tf, UsdUtils

    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as name:
        folder = Path(name)
        layer, package = folder / "mesh.usdc", folder / "mesh.usdz"
        if mesh.texture is not None:
            Image.fromarray(mesh.texture).save(folder / TEXTURE)
        try:
            _write_layer(mesh, layer)
            done = UsdUtils.CreateNewUsdzPackage(str(layer), str(package))
        except Tf.ErrorException as error:
            raise OSError(reason(error)) from error
        if not done:
            raise OSError("the USD library could not make the package")
        package.replace(path)


def _write_layer(mesh: Mesh, path: Path) -> None:
    from pxr import Gf, Sdf, Usd, UsdGeom, Vt

    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/mesh")
    stage.SetDefaultPrim(root.GetPrim())

    kept, of_vertex = welded(mesh)
    points = np.ascontiguousarray(mesh.vertices[kept], np.float32)
    surface = UsdGeom.Mesh.Define(stage, "/mesh/surface")
    surface.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    surface.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    surface.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(of_vertex[mesh.faces].reshape(-1).astype(np.int32)))
    surface.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    surface.CreateDoubleSidedAttr(True)
    surface.CreateExtentAttr([Gf.Vec3f(*map(float, points.min(axis=0))), Gf.Vec3f(*map(float, points.max(axis=0)))])
    surface.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertex_normals(mesh)[kept])))
    surface.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    primvars = UsdGeom.PrimvarsAPI(surface)
    if mesh.uvs is not None:
        st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying)
        st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(mesh.uvs, np.float32)))
        st.SetIndices(Vt.IntArray.FromNumpy(mesh.faces.reshape(-1).astype(np.int32)))
    if mesh.texture is None:
        colors = primvars.CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex)
        colors.Set(Vt.Vec3fArray.FromNumpy(linear_of_srgb(mesh.colors[kept]).astype(np.float32)))
    _bind_material(stage, surface, textured=mesh.texture is not None)
    stage.GetRootLayer().Save()


def _bind_material(stage: Any, surface: Any, textured: bool) -> None:
    """Binds a matt UsdPreviewSurface, coloured by the texture or by vertex colours."""
    from pxr import Sdf, UsdShade

    material = UsdShade.Material.Define(stage, "/mesh/material")
    shader = UsdShade.Shader.Define(stage, "/mesh/material/preview")
    shader.CreateIdAttr("UsdPreviewSurface")
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(1.0)
    shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
    diffuse = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    primvar = UsdShade.Shader.Define(stage, "/mesh/material/primvar")
    if textured:
        primvar.CreateIdAttr("UsdPrimvarReader_float2")
        primvar.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
        texture = UsdShade.Shader.Define(stage, "/mesh/material/texture")
        texture.CreateIdAttr("UsdUVTexture")
        texture.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(f"./{TEXTURE}")
        texture.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
        for wrap in ("wrapS", "wrapT"):
            texture.CreateInput(wrap, Sdf.ValueTypeNames.Token).Set("clamp")
        texture.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(
            primvar.CreateOutput("result", Sdf.ValueTypeNames.Float2)
        )
        diffuse.ConnectToSource(texture.CreateOutput("rgb", Sdf.ValueTypeNames.Float3))
    else:
        primvar.CreateIdAttr("UsdPrimvarReader_float3")
        primvar.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
        diffuse.ConnectToSource(primvar.CreateOutput("result", Sdf.ValueTypeNames.Float3))
    material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(surface.GetPrim()).Bind(material)
