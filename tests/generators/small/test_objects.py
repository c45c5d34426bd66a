# SPDX-License-Identifier: Apache-2.0
"""Objects before img3d-small's camera: framing, cameras around them, colours and light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.glb import glb
from img3d_base.errors import InputError
from img3d_generators.small.objects import (
    BORDER_RATIO,
    Light,
    ObjectMesh,
    around,
    input_camera,
    read_object,
)

SIZE = 64


def box(sides: tuple[float, float, float], colour: tuple[float, float, float] = (0.8, 0.4, 0.2)) -> Mesh:
    """A box around the origin whose furthest vertex is at distance 1."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(sides, float)
    faces = [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
    vertices = corners / np.linalg.norm(corners[0])
    return Mesh(vertices, np.array(faces), np.tile(np.array(colour, np.float32), (8, 1)))


@pytest.mark.parametrize("azimuth", [0.0, 35.0, 200.0])
def test_a_placed_object_fills_the_picture_but_for_the_border(azimuth: float) -> None:
    shape = ObjectMesh(box((0.6, 1.0, 0.5)))
    placement = shape.placed(azimuth, 20.0)
    assert placement is not None
    alpha = shape.pictures(placement, input_camera(), SIZE).alpha[0, ..., 0] > 0.5
    rows, columns = alpha.any(dim=1).nonzero(), alpha.any(dim=0).nonzero()
    extents = [int(each.max() - each.min()) + 1 for each in (rows, columns)]
    assert max(extents) == pytest.approx((1 - BORDER_RATIO) * SIZE, abs=1.5)
    for each in (rows, columns):
        assert float(each.min() + each.max()) / 2 == pytest.approx((SIZE - 1) / 2, abs=1)


def test_an_object_seen_along_its_length_cannot_be_placed() -> None:
    shape = ObjectMesh(box((0.1, 0.1, 1.0)))
    assert shape.placed(0.0, 5.0) is None
    assert shape.placed(90.0, 5.0) is not None


def test_a_camera_around_the_object_sees_the_side_that_it_is_at() -> None:
    """A box with one red side, at +x."""
    mesh = box((1.0, 1.0, 1.0))
    mesh.colors[:] = 0.5
    front = mesh.vertices[:, 0] > 0
    corners = mesh.faces[front[mesh.faces].all(axis=1)]
    mesh.vertices = np.concatenate([mesh.vertices, mesh.vertices[corners.ravel()]])
    mesh.colors = np.concatenate([mesh.colors, np.tile(np.array([1.0, 0, 0], np.float32), (6, 1))])
    kept = mesh.faces[~front[mesh.faces].all(axis=1)]
    mesh.faces = np.concatenate([kept, np.arange(8, 14).reshape(2, 3)])
    shape = ObjectMesh(mesh)
    placement = shape.placed(20.0, 15.0)
    assert placement is not None
    poses = around(placement, [90.0, 270.0], [0.0, 0.0], 1.8)
    middle = shape.pictures(placement, poses, SIZE).premultiplied[:, SIZE // 2, SIZE // 2]
    torch.testing.assert_close(middle, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5]]), atol=1e-5, rtol=0)


def test_depth_is_in_the_world() -> None:
    shape = ObjectMesh(box((0.6, 1.0, 0.5)))
    placement = shape.placed(0.0, 0.0)
    assert placement is not None
    half = float(placement[:, 0].norm()) * shape.mesh.vertices[:, 2].max()
    depths = shape.pictures(placement, input_camera(), SIZE).depths
    assert depths is not None
    assert float(depths[0, SIZE // 2, SIZE // 2, 0]) == pytest.approx(1.5 - half, abs=1e-3)


def test_vertex_colours_of_files_are_as_they_appear(tmp_path: Path) -> None:
    """Bytes of COLOR_0 are on screen what they say, whatever glTF says about linear light."""
    mesh = box((1.0, 2.0, 1.0), (0.2, 0.5, 0.7))
    mesh.vertices = 3 * mesh.vertices + 1
    (tmp_path / "box.glb").write_bytes(glb(mesh))
    read = read_object(tmp_path / "box.glb").mesh
    assert np.linalg.norm(read.vertices, axis=1).max() == pytest.approx(1)
    np.testing.assert_allclose(read.vertices.min(axis=0), -read.vertices.max(axis=0), atol=1e-6)
    # Our own writer stores linear colours; taken as they are, they are darker than what was written.
    assert (read.colors[0] < [0.2, 0.5, 0.7]).all()


def test_an_object_without_extent_is_refused(tmp_path: Path) -> None:
    mesh = box((1.0, 1.0, 1.0))
    mesh.vertices = np.ones_like(mesh.vertices)
    (tmp_path / "point.glb").write_bytes(glb(mesh))
    with pytest.raises(InputError, match="no extent"):
        read_object(tmp_path / "point.glb")


def test_light_is_fixed_to_the_object() -> None:
    light = Light((0.0, 1.0, 0.0), 0.4)
    shade = light.shade(torch.tensor([[0.0, 1, 0], [0, -1, 0], [1, 0, 0]]))
    torch.testing.assert_close(shade, torch.tensor([[1.0], [0.6], [0.8]]))
