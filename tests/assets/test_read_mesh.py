# SPDX-License-Identifier: Apache-2.0
"""Mesh files of other programs become one mesh with one texture; damaged ones are refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from textured_meshes import grey_mesh, texture_at, waves

from img3d_assets.axes import TO_Y_UP
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import is_mesh, read_mesh, write_mesh
from img3d_assets.mesh_formats.joining import joined
from img3d_base.errors import InputError

ENDINGS = (".obj", ".glb", ".ply", ".stl", ".usdz")
TEXTURED = (".obj", ".glb", ".usdz")
SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
SQUARE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def square(color: tuple[float, float, float] = (0.5, 0.5, 0.5), x: float = 0.0) -> Mesh:
    return Mesh(SQUARE + [x, 0, 0], SQUARE_FACES, np.tile(np.float32(color), (4, 1)))


def textured_square(texture: np.ndarray, repeats: float = 1.0, x: float = 0.0) -> Mesh:
    return replace(square(x=x), uvs=(SQUARE[:, :2] * repeats).astype(np.float32), texture=texture)


def plain(color: tuple[int, int, int], size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), color, np.uint8)


def color_at(mesh: Mesh, point: tuple[float, float]) -> np.ndarray:
    """In [0, 1], of the surface at (x, y), from the texture or the vertices."""
    for face in mesh.faces:
        corners = mesh.vertices[face][:, :2]
        try:
            weights = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), [*point, 1.0])
        except np.linalg.LinAlgError:
            continue
        if weights.min() >= -1e-6:
            if mesh.texture is None:
                return weights @ mesh.colors[face]
            assert mesh.uvs is not None
            return texture_at(mesh.texture, (weights @ mesh.uvs[face])[None])[0]
    raise AssertionError(f"nothing is at {point}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_again(tmp_path: Path, ending: str) -> None:
    shape = trimesh.creation.icosphere(2)
    mesh = grey_mesh(shape)
    mesh.colors = waves(mesh.vertices).astype(np.float32)
    path = tmp_path / f"a{ending}"
    write_mesh(mesh, path)
    back, up = read_mesh(path)
    assert is_mesh(path) and up == ("y" if ending not in (".ply", ".stl") else None)
    vertices = back.vertices @ TO_Y_UP["z"] if up == "y" else back.vertices
    np.testing.assert_allclose(vertices[back.faces], mesh.vertices[mesh.faces], atol=1e-6)
    if ending != ".stl":
        np.testing.assert_allclose(back.colors[back.faces], mesh.colors[mesh.faces], atol=0.6 / 255)


@pytest.mark.parametrize("ending", TEXTURED)
def test_a_texture_is_read_again(tmp_path: Path, ending: str) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (32, 16, 3)).astype(np.uint8)
    write_mesh(textured_square(texture), tmp_path / f"a{ending}", up="y")
    back, _ = read_mesh(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(back.texture, texture)
    for point in ((0.03, 0.03), (0.97, 0.03), (0.4, 0.9)):
        expected = color_at(textured_square(texture), point)
        np.testing.assert_allclose(color_at(back, point), expected, atol=0.02)


def test_parts_with_textures_and_parts_with_colours_become_one_mesh() -> None:
    mesh = joined(
        [
            textured_square(plain((255, 0, 0))),
            textured_square(plain((0, 255, 0), size=40), x=2),
            square((0.0, 0.0, 1.0), x=4),
        ]
    )
    assert len(mesh.faces) == 6 and mesh.uvs is not None and mesh.uvs.min() >= 0 and mesh.uvs.max() <= 1
    for x, color in ((0.5, [1, 0, 0]), (2.5, [0, 1, 0]), (4.5, [0, 0, 1]), (0.001, [1, 0, 0]), (4.999, [0, 0, 1])):
        np.testing.assert_allclose(color_at(mesh, (x, 0.3)), color, atol=0.01)


def test_parts_of_one_texture_keep_it() -> None:
    texture = plain((1, 2, 3))
    assert joined([textured_square(texture), textured_square(texture, x=2)]).texture is texture


@pytest.mark.parametrize("offset", [0.0, 5.0, -3.0])
def test_textures_that_repeat_are_unrolled(offset: float) -> None:
    texture = plain((255, 0, 0))
    texture[:, 8:] = (0, 0, 255)  # the right half is blue
    part = textured_square(texture, repeats=3.0)
    assert part.uvs is not None
    part.uvs += offset
    mesh = joined([part])
    assert mesh.uvs is not None and mesh.uvs.min() >= 0 and mesh.uvs.max() <= 1
    for third in range(3):
        np.testing.assert_allclose(color_at(mesh, ((third + 0.25) / 3, 0.5)), [1, 0, 0], atol=0.01)
        np.testing.assert_allclose(color_at(mesh, ((third + 0.75) / 3, 0.5)), [0, 0, 1], atol=0.01)


def test_faces_that_are_moved_by_whole_textures_cost_no_larger_texture() -> None:
    part = textured_square(plain((9, 9, 9)))
    assert part.uvs is not None
    part.uvs += 4
    mesh = joined([part])
    assert mesh.texture is not None and mesh.texture.shape == (16, 16, 3)


def test_an_obj_of_polygons_with_materials(tmp_path: Path) -> None:
    Image.fromarray(plain((0, 255, 0))).save(tmp_path / "wood.png")
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0\nnewmtl wood\nKd 1 1 1\nmap_Kd C:\\art\\wood.png\n")
    (tmp_path / "a.obj").write_text(
        "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 2 0 0\nv 3 0 0\nv 3 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        "usemtl red\nf 5 6 7\nusemtl wood\nf 1/1 2/2 3/3 4/4\n"
    )
    mesh, up = read_mesh(tmp_path / "a.obj")
    assert up == "y" and len(mesh.faces) == 3
    np.testing.assert_allclose(color_at(mesh, (0.5, 0.4)), [0, 1, 0], atol=0.01)
    np.testing.assert_allclose(color_at(mesh, (2.9, 0.1)), [1, 0, 0], atol=0.01)


def test_a_material_that_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.obj").write_text("mtllib ../a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nusemtl red\nf 1 2 3\n")
    mesh, _ = read_mesh(tmp_path / "a.obj")
    assert len(mesh.faces) == 1 and "../a.mtl" in capsys.readouterr().out


def gltf_of(tmp_path: Path, **changes: object) -> Path:
    """A triangle at a node that doubles it, of a linear grey, in a .gltf with its .bin beside it."""
    numbers = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0]]).tobytes()
    (tmp_path / "a.bin").write_bytes(numbers)
    scene = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "scale": [2, 2, 2], "translation": [0, 0, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": len(numbers)}],
        "buffers": [{"uri": "a.bin", "byteLength": len(numbers)}],
    }
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps({**scene, **changes}))
    return path


def test_a_gltf_has_nodes_and_linear_colours(tmp_path: Path) -> None:
    mesh, up = read_mesh(gltf_of(tmp_path))
    assert up == "y"
    np.testing.assert_allclose(mesh.vertices[mesh.faces[0]], [[0, 0, 1], [2, 0, 1], [0, 2, 1]])
    np.testing.assert_allclose(mesh.colors, 188 / 255, atol=0.5 / 255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": 10**9, "type": "VEC3"}]}, "rows"),
        ({"accessors": [{"bufferView": 0, "componentType": 5126, "count": 10**7, "type": "VEC3"}]}, "are there"),
        ({"buffers": [{"uri": "../a.bin", "byteLength": 36}]}, "out of its folder"),
        ({"buffers": [{"uri": "b.bin", "byteLength": 36}]}, "b.bin"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 0}]}]}, "no triangles"),
        ({"meshes": [{"primitives": [{"attributes": {}, "extensions": {}}]}]}, "no triangles"),
        ({"nodes": [{"mesh": 7}]}, "damaged"),
        ({"scenes": 3}, "damaged"),
    ],
)
def test_a_damaged_gltf_costs_one_line(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_mesh(gltf_of(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.obj", b"", "no faces"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nf 1 2 9\n", "a.obj"),
        ("a.obj", b"v nan 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", "a.obj"),
        ("a.stl", b"\0" * 200, "a.stl"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n", "are there"),
        ("a.ply", b"no ply", "not a PLY"),
        ("a.usdz", b"PK", "zip"),
        ("a.glb", b"glTF\2\0\0\0", "cut off"),
        ("a.blend", b"", "has to end in"),
    ],
)
def test_files_that_are_no_meshes_cost_one_line(tmp_path: Path, name: str, contents: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(InputError, match=message) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".glb", ".ply", ".stl", ".obj"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, ending: str, data: st.DataObject) -> None:
    path = tmp_path / f"a{ending}"
    write_mesh(square((0.1, 0.2, 0.3)), path)
    contents = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(contents[: data.draw(st.integers(len(contents) // 2, len(contents)))])
    try:
        read_mesh(path)
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        path.unlink()


def test_points_and_splats_are_no_meshes(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n")
    assert not is_mesh(tmp_path / "a.ply") and not is_mesh(tmp_path / "a.splat")


def test_a_mesh_that_a_small_gltf_places_many_times_is_refused(tmp_path: Path) -> None:
    """Placed, its vertices would take 24 bytes each for each node: gigabytes for a file of 200 kB."""
    points = np.zeros((10_000, 3), "<f4")
    scene = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": list(range(20_000))}],
        "nodes": [{"mesh": 0}] * 20_000,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": points.nbytes}],
        "buffers": [{"byteLength": points.nbytes, "uri": "points.bin"}],
    }
    (tmp_path / "points.bin").write_bytes(points.tobytes())
    (tmp_path / "a.gltf").write_text(json.dumps(scene))
    with pytest.raises(InputError, match="made to fill the memory"):
        read_mesh(tmp_path / "a.gltf")


@pytest.mark.parametrize("meshes", [5, [5], [{}], [{"primitives": [5]}]])
def test_a_gltf_whose_meshes_are_something_else_is_damaged(tmp_path: Path, meshes: object) -> None:
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps({"asset": {"version": "2.0"}, "meshes": meshes}))
    with pytest.raises(InputError, match=r"a\.gltf cannot be read: it is damaged"):
        is_mesh(path)
