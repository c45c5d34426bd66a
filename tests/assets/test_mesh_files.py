# SPDX-License-Identifier: Apache-2.0
"""Files of meshes hold the same surface and texture for programs that are not ours, whole or not at all."""

from __future__ import annotations

import importlib.util
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open3d
import plyfile
import pymeshlab
import pytest
import trimesh
from full_disk import files_limited_to
from hypothesis import given, settings
from hypothesis import strategies as st
from node_tools import NoNodeToolError, gltf_validation
from PIL import Image
from textured_meshes import grey_mesh, points_with_colors, texture_at, waves

from img3d_assets import mesh_files
from img3d_assets.axes import TO_Y_UP
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import FORMATS, check_output, holds_texture, write_mesh
from img3d_assets.mesh_formats import fbx
from img3d_assets.meshing.uv_atlas import texels_of, unwrapped, with_gutters
from img3d_base.errors import InputError

ENDINGS = [".obj", *(ending for ending in FORMATS if ending != ".fbx")]
TEXTURED = [ending for ending in ENDINGS if holds_texture(Path(f"a{ending}"))]
Y_UP = [".obj", ".glb", ".usdz", ".fbx"]
has_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs the extra fbx")


def colored_mesh(shape: trimesh.Trimesh) -> Mesh:
    mesh = grey_mesh(shape)
    return replace(mesh, colors=waves(mesh.vertices).astype(np.float32))


def textured_mesh(shape: trimesh.Trimesh, size: int = 128) -> Mesh:
    """Its texture is `waves`, without any pictures."""
    mesh = unwrapped(colored_mesh(shape), size)
    texels = texels_of(mesh, size)
    texture = np.zeros((size * size, 3), np.uint8)
    texture[texels.pixels] = np.round(waves(texels.interpolated(mesh.vertices, mesh)) * 255)
    return replace(mesh, texture=with_gutters(texture.reshape(size, size, 3), texels.pixels))


SPHERE = trimesh.creation.icosphere(2)
BOX = trimesh.creation.box((1.0, 2.0, 0.5)).apply_translation((0.3, 0.2, 4.0))

# ------------------------------------------------------------------------- other programs, in the axes of our world


def by_trimesh(path: Path) -> Mesh:
    shape = trimesh.load(path, process=False, force="mesh")
    assert isinstance(shape, trimesh.Trimesh)
    mesh = grey_mesh(shape)
    if isinstance(shape.visual, trimesh.visual.TextureVisuals) and shape.visual.uv is not None:
        material = shape.visual.material
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        mesh.uvs = np.asarray(shape.visual.uv, np.float32)
        mesh.texture = None if image is None else np.asarray(image.convert("RGB"))
    elif shape.visual.kind == "vertex":
        mesh.colors = np.asarray(shape.visual.vertex_colors[:, :3] / 255, np.float32)
    return in_z_up(mesh, path)


def by_open3d(path: Path) -> Mesh:
    """Texture coordinates are those of corners, so every corner becomes a vertex."""
    shape = open3d.io.read_triangle_mesh(str(path), enable_post_processing=False)
    vertices, faces = np.asarray(shape.vertices), np.asarray(shape.triangles)
    colors = np.full((len(vertices), 3), 0.5)
    if shape.has_vertex_colors():
        colors = np.asarray(shape.vertex_colors)
    mesh = Mesh(vertices, faces, colors.astype(np.float32))
    if shape.has_triangle_uvs():
        mesh = Mesh(vertices[faces.ravel()], np.arange(faces.size).reshape(-1, 3), mesh.colors[faces.ravel()])
        mesh.uvs = np.asarray(shape.triangle_uvs, np.float32)
        (material,) = set(np.asarray(shape.triangle_material_ids))
        mesh.texture = np.asarray(shape.textures[material])[::-1, :, :3]  # it has the lower row first
    return in_z_up(mesh, path)


def by_pxr(path: Path) -> Mesh:
    from pxr import Usd, UsdGeom, UsdShade

    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    (prim,) = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    surface, primvars = UsdGeom.Mesh(prim), UsdGeom.PrimvarsAPI(prim)
    vertices = np.array(surface.GetPointsAttr().Get())
    faces = np.array(surface.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    mesh = Mesh(vertices, faces, np.full((len(vertices), 3), 0.5, np.float32))
    if primvars.GetPrimvar("displayColor").HasValue():
        linear = np.array(primvars.GetPrimvar("displayColor").Get())
        mesh.colors = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    if primvars.HasPrimvar("st"):
        mesh = Mesh(vertices[faces.ravel()], np.arange(faces.size).reshape(-1, 3), mesh.colors[faces.ravel()])
        mesh.uvs = np.array(primvars.GetPrimvar("st").ComputeFlattened())
        material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
        shader, _, _ = material.ComputeSurfaceSource()
        texture = UsdShade.Shader(shader.GetInput("diffuseColor").GetConnectedSources()[0][0].source.GetPrim())
        name = texture.GetInput("file").Get().path
        with zipfile.ZipFile(path) as package, package.open(name.removeprefix("./")) as file:
            mesh.texture = np.asarray(Image.open(file).convert("RGB"))
    return in_z_up(mesh, path)


def in_z_up(mesh: Mesh, path: Path) -> Mesh:
    return replace(mesh, vertices=mesh.vertices @ TO_Y_UP["z"]) if path.suffix in Y_UP else mesh


READERS: dict[str, list[Callable[[Path], Mesh]]] = {
    ".obj": [by_trimesh, by_open3d],
    ".glb": [by_trimesh, by_open3d],
    ".usdz": [by_pxr],
    ".fbx": [by_open3d],
    ".ply": [by_trimesh, by_open3d],
    ".stl": [by_trimesh, by_open3d],
}
READ = [(ending, reader) for ending in ENDINGS for reader in READERS[ending]]
FBX = pytest.param(".fbx", by_open3d, marks=has_blender)


def triangles(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[mesh.faces].astype(np.float64)


# ---------------------------------------------------------------------------------------------------------- contents


@pytest.mark.parametrize(("ending", "reader"), [*READ, FBX])
@pytest.mark.parametrize("make", [colored_mesh, textured_mesh])
def test_the_surface_is_the_same(
    tmp_path: Path, ending: str, reader: Callable[[Path], Mesh], make: Callable[[trimesh.Trimesh], Mesh]
) -> None:
    mesh = make(SPHERE)
    write_mesh(mesh, tmp_path / "new" / f"a{ending}")
    back = reader(tmp_path / "new" / f"a{ending}")
    np.testing.assert_allclose(triangles(back), triangles(mesh), rtol=0, atol=6e-8)  # float32


@pytest.mark.parametrize(("ending", "reader"), [(ending, each) for ending, each in READ if ending in TEXTURED] + [FBX])
def test_the_texture_lies_where_it_lay(tmp_path: Path, ending: str, reader: Callable[[Path], Mesh]) -> None:
    mesh = textured_mesh(BOX)
    write_mesh(mesh, tmp_path / f"a{ending}")
    back = reader(tmp_path / f"a{ending}")
    assert mesh.uvs is not None and back.uvs is not None
    np.testing.assert_array_equal(back.texture, mesh.texture)
    np.testing.assert_allclose(back.uvs[back.faces], mesh.uvs[mesh.faces], rtol=0, atol=6e-7)  # six digits in OBJ
    points, colors = points_with_colors(back)
    assert np.abs(colors - waves(points)).max() < 0.05  # nearest texels: 0.045 before it is written


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_upper_left_corner_stays_there(tmp_path: Path, ending: str) -> None:
    """A square with a red, a green, a blue and a white corner."""
    if ending not in TEXTURED:
        pytest.skip("has no textures")
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    mesh = Mesh(
        np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]]),  # seen from -y: x to the right, z up
        np.array([[0, 1, 2], [0, 2, 3]]),
        np.zeros((4, 3), np.float32),
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32),
        np.repeat(np.repeat(corners, 8, axis=0), 8, axis=1),
    )
    write_mesh(mesh, tmp_path / f"a{ending}")
    for reader in READERS[ending]:
        back = reader(tmp_path / f"a{ending}")
        assert back.uvs is not None and back.texture is not None
        colors = texture_at(back.texture, back.uvs)
        for corner, color in (((0, 0, 1), [1, 0, 0]), ((1, 0, 1), [0, 1, 0]), ((0, 0, 0), [0, 0, 1])):
            here = np.linalg.norm(back.vertices - corner, axis=1) < 1e-6
            assert here.any() and np.abs(colors[here] - color).max() < 0.01


@pytest.mark.parametrize(
    ("ending", "reader", "tolerance"),
    [
        (".obj", by_trimesh, 0.6 / 255),
        (".obj", by_open3d, 1e-4),
        (".usdz", by_pxr, 1e-6),
        (".ply", by_trimesh, 0.6 / 255),
        (".ply", by_open3d, 0.6 / 255),
        pytest.param(".fbx", by_open3d, 0.02, marks=has_blender),
    ],
)
def test_vertices_keep_their_colours(
    tmp_path: Path, ending: str, reader: Callable[[Path], Mesh], tolerance: float
) -> None:
    mesh = colored_mesh(SPHERE)
    write_mesh(mesh, tmp_path / f"a{ending}")
    back = reader(tmp_path / f"a{ending}")
    np.testing.assert_allclose(back.colors[back.faces], mesh.colors[mesh.faces], atol=tolerance)


def test_colours_of_a_glb_are_linear(tmp_path: Path) -> None:
    mesh = colored_mesh(SPHERE)
    write_mesh(mesh, tmp_path / "a.glb")
    back = by_open3d(tmp_path / "a.glb")
    srgb = mesh.colors[mesh.faces]
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(back.colors[back.faces], linear, atol=1e-5)


@pytest.mark.parametrize("ending", [".obj", ".ply", ".usdz", ".stl"])
def test_a_closed_surface_stays_closed_under_its_texture(tmp_path: Path, ending: str) -> None:
    write_mesh(textured_mesh(SPHERE), tmp_path / f"a{ending}")
    if ending == ".usdz":
        from pxr import Usd, UsdGeom

        stage = Usd.Stage.Open(str(tmp_path / "a.usdz"))
        surface = UsdGeom.Mesh(stage.GetPrimAtPath("/mesh/surface"))
        points, faces = surface.GetPointsAttr().Get(), np.array(surface.GetFaceVertexIndicesAttr().Get())
        back = trimesh.Trimesh(np.array(points), faces.reshape(-1, 3), process=False)
    elif ending == ".obj":
        meshes = pymeshlab.MeshSet()  # others double vertices where texture coordinates differ
        meshes.load_new_mesh(str(tmp_path / "a.obj"))
        read = meshes.current_mesh()
        back = trimesh.Trimesh(read.vertex_matrix(), read.face_matrix(), process=False)
    else:
        back = trimesh.load(tmp_path / f"a{ending}", process=ending == ".stl")
    assert back.is_watertight and len(back.vertices) == len(SPHERE.vertices)
    assert back.volume == pytest.approx(SPHERE.volume, rel=1e-4)  # and faces are turned outward


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.integers(3, 40),
    scale=st.floats(1e-3, 1e3),
    offset=st.floats(-1e4, 1e4),
    ending=st.sampled_from(ENDINGS),
)
def test_any_triangles_come_back(
    seed: int, num: int, scale: float, offset: float, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    faces = np.stack([rng.choice(num, 3, replace=False) for _ in range(2 * num)])
    mesh = Mesh(rng.normal(size=(num, 3)) * scale + offset, faces, rng.random((num, 3), np.float32))
    path = tmp_path_factory.mktemp("any") / f"a{ending}"
    write_mesh(mesh, path)
    for reader in READERS[ending]:
        np.testing.assert_allclose(triangles(reader(path)), triangles(mesh), atol=2e-7 * (scale * 4 + abs(offset)))


def test_smooth_surfaces_have_smooth_normals_across_seams(tmp_path: Path) -> None:
    mesh = textured_mesh(trimesh.creation.icosphere(3))
    write_mesh(mesh, tmp_path / "a.glb")
    shape = trimesh.load(tmp_path / "a.glb", process=False, force="mesh")
    assert isinstance(shape, trimesh.Trimesh)
    assert (shape.vertex_normals * shape.vertices).sum(axis=1).min() > 0.99


# -------------------------------------------------------------------------------------------- axes, names, validators


@pytest.mark.parametrize("ending", ENDINGS)
def test_unknown_axes_are_left_alone(tmp_path: Path, ending: str) -> None:
    mesh = colored_mesh(BOX)
    write_mesh(mesh, tmp_path / f"a{ending}", up=None)
    back = READERS[ending][0](tmp_path / f"a{ending}")
    if ending in Y_UP:
        back = replace(back, vertices=back.vertices @ TO_Y_UP["z"].T)
    np.testing.assert_allclose(triangles(back), triangles(mesh), atol=1e-6)


def test_names_in_an_obj_have_no_spaces(tmp_path: Path) -> None:
    write_mesh(textured_mesh(BOX, 64), tmp_path / "my chair.obj")
    assert sorted(os.listdir(tmp_path)) == ["my chair.obj", "my_chair.mtl", "my_chair.png"]
    assert by_open3d(tmp_path / "my chair.obj").texture is not None
    write_mesh(colored_mesh(BOX), tmp_path / "plain.obj")
    assert not (tmp_path / "plain.mtl").exists()


@pytest.mark.parametrize("make", [colored_mesh, textured_mesh])
def test_khronos_validator_has_nothing_to_say(tmp_path: Path, make: Callable[[trimesh.Trimesh], Mesh]) -> None:
    write_mesh(make(SPHERE), tmp_path / "a.glb")
    try:
        report = gltf_validation(tmp_path / "a.glb")
    except NoNodeToolError as missing:
        pytest.skip(str(missing))
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0
    assert report["info"]["totalTriangleCount"] == len(SPHERE.faces)


@pytest.mark.parametrize("make", [colored_mesh, textured_mesh])
def test_pixars_checker_has_nothing_to_say(tmp_path: Path, make: Callable[[trimesh.Trimesh], Mesh]) -> None:
    from pxr import Usd, UsdValidation

    write_mesh(make(SPHERE), tmp_path / "a.usdz")
    checks = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert [error.GetMessage() for error in checks.Validate(Usd.Stage.Open(str(tmp_path / "a.usdz")))] == []


def test_a_ply_has_bytes_for_colours(tmp_path: Path) -> None:
    write_mesh(colored_mesh(SPHERE), tmp_path / "a.ply")
    vertices = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert [prop.name for prop in vertices.properties] == ["x", "y", "z", "red", "green", "blue", "alpha"]
    assert vertices["red"].dtype == np.uint8 and (vertices["alpha"] == 255).all()


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("ending", [*ENDINGS, pytest.param(".fbx", marks=has_blender)])
def test_a_full_disk_leaves_the_old_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_mesh(textured_mesh(BOX, 64), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with files_limited_to(5000), pytest.raises(InputError, match="cannot be written") as error:
        write_mesh(textured_mesh(trimesh.creation.icosphere(4), 256), path)
    assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_unwritable_places_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for ending in ENDINGS:
        with pytest.raises(InputError, match="cannot be written"):
            write_mesh(colored_mesh(BOX), tmp_path / "file" / f"a{ending}")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.mtl", "a.png"])
def test_nothing_is_replaced_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    path = tmp_path / ("a.glb" if name == "a.glb" else "a.obj")
    with pytest.raises(InputError, match=f"{name} already exists"):
        check_output(path, force=False)
    check_output(path, force=True)


def test_unknown_endings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match="a mesh to .*: the file name has to end in one of .obj, .glb, .usdz, .fbx, .ply, .stl",
    ):
        check_output(tmp_path / "a.blend", force=False)
    check_output(tmp_path / "A.GLB", force=False)


def test_without_blender_fbx_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fbx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'img3d\[fbx\]'"):
        check_output(tmp_path / "a.fbx", force=False)


def test_a_mesh_of_nothing_is_one_line(tmp_path: Path) -> None:
    empty = replace(colored_mesh(BOX), faces=np.zeros((0, 3), np.int64))
    broken = replace(colored_mesh(BOX), vertices=np.full((8, 3), np.inf))
    for mesh, message in ((empty, "no faces"), (broken, "not finite")):
        with pytest.raises(InputError, match=message):
            write_mesh(mesh, tmp_path / "a.glb")
    assert os.listdir(tmp_path) == []
    assert mesh_files.holds_texture(tmp_path / "a.OBJ") and not holds_texture(tmp_path / "a.stl")
