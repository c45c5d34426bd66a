# SPDX-License-Identifier: Apache-2.0
"""Meshes along rays: what is hit, where, in which colour, and how pictures of them are antialiased."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from img3d_kernels.mesh_rendering import MeshScene

SIZE = 64
FACING = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4.0]])
"""A camera 4 units from the origin that looks along -z."""
SQUARE = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
SQUARE_FACES = torch.tensor([[0, 1, 2], [0, 2, 3]])
SQUARE_UVS = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def intrinsics(focal: float) -> Tensor:
    return torch.tensor([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1.0]])


FILLING = intrinsics(focal=2.0 * SIZE)
"""The square fills the picture."""


def square(**appearance: Tensor) -> MeshScene:
    return MeshScene(SQUARE, SQUARE_FACES, appearance.pop("colors", torch.ones(4, 3)), **appearance)


def test_a_texture_seen_head_on_is_shown_as_it_is() -> None:
    texture = torch.rand(SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
    rgb, depth, accumulation, normals = square(uvs=SQUARE_UVS, texture=texture).render(FACING, FILLING, SIZE, SIZE, 1)
    torch.testing.assert_close(rgb[2:-2, 2:-2], texture[2:-2, 2:-2], atol=2e-3, rtol=0)
    torch.testing.assert_close(depth, torch.full_like(depth, 4.0))
    assert (accumulation == 1).all()
    torch.testing.assert_close(normals, torch.tensor([0.0, 0, 1]).expand_as(normals))


def test_a_texture_seen_from_afar_is_averaged() -> None:
    checker = ((torch.arange(256)[:, None] + torch.arange(256)) % 2).float()[..., None].expand(-1, -1, 3)
    small = intrinsics(focal=SIZE / 2)
    rgb, _, accumulation, _ = square(uvs=SQUARE_UVS, texture=checker).render(FACING, small, SIZE, SIZE)
    inside = accumulation[..., 0] == 1
    assert inside.sum() >= 14**2
    torch.testing.assert_close(rgb[inside], torch.full_like(rgb[inside], 0.5), atol=0.02, rtol=0)


def test_texture_coordinates_beyond_one_repeat() -> None:
    texture = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(2))
    once = square(uvs=SQUARE_UVS, texture=texture)
    shifted = square(uvs=SQUARE_UVS + torch.tensor([3.0, -2.0]), texture=texture)
    origins = torch.tensor([[0.3, 0.4, 4.0], [-0.7, 0.1, 4.0]])
    directions = torch.tensor([0.0, 0, -1]).expand(2, 3)
    torch.testing.assert_close(shifted.cast(origins, directions).rgb, once.cast(origins, directions).rgb)


def test_vertex_colours_are_interpolated() -> None:
    colors = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    hits = square(colors=colors).cast(torch.tensor([[0.5, -0.5, 2.0]]), torch.tensor([[0.0, 0, -2.0]]))
    torch.testing.assert_close(hits.rgb, torch.tensor([[0.75, 0.25, 0.0]]))
    torch.testing.assert_close(hits.depth, torch.tensor([1.0]))  # in lengths of the direction


def test_edges_are_antialiased_and_nothing_is_behind_them() -> None:
    half = torch.tensor([[-9.0, -9, 0], [0, -9, 0], [0, 9, 0], [-9, 9, 0]])
    scene = MeshScene(half, SQUARE_FACES, torch.ones(4, 3))
    K = intrinsics(focal=2.0 * SIZE)
    K[0, 2] += 0.5  # the edge goes through the middle of a column of pixels
    rgb, depth, accumulation, _ = scene.render(FACING, K, SIZE, SIZE, samples_per_side=2)
    across = accumulation[SIZE // 2, :, 0]
    assert across[: SIZE // 2].eq(1).all() and across[SIZE // 2] == 0.5 and across[SIZE // 2 + 1 :].eq(0).all()
    assert (rgb[..., :1] == accumulation).all()
    assert (depth[accumulation == 0] == 0).all()
    torch.testing.assert_close(depth[SIZE // 2, SIZE // 2], torch.tensor([4.0]))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_normals_face_the_ray_whichever_way_the_triangle_is_wound(side: float) -> None:
    hits = square().cast(torch.tensor([[0.0, 0.1, 3.0 * side]]), torch.tensor([[0.0, 0, -side]]))
    torch.testing.assert_close(hits.normals, torch.tensor([[0.0, 0, side]]))


def test_a_ray_that_hits_nothing_says_so() -> None:
    hits = square().cast(torch.tensor([[5.0, 0, 1]]), torch.tensor([[0.0, 0, -1]]))
    assert not hits.is_hit.any() and hits.depth.isinf().all() and (hits.rgb == 0).all() and (hits.normals == 0).all()


def test_depth_of_a_turned_camera_is_along_its_axis() -> None:
    angle = torch.tensor(0.3)
    turn = torch.stack(
        [
            torch.stack([angle.cos(), torch.tensor(0.0), angle.sin()]),
            torch.tensor([0.0, 1, 0]),
            torch.stack([-angle.sin(), torch.tensor(0.0), angle.cos()]),
        ]
    )
    pose = torch.cat([turn, turn @ torch.tensor([[0.0], [0], [4]])], dim=1)
    _, depth, accumulation, _ = square().render(pose, intrinsics(focal=float(SIZE)), SIZE, SIZE, 1)
    rows, columns = torch.nonzero(accumulation[..., 0], as_tuple=True)
    in_camera = torch.stack(
        [(columns + 0.5 - SIZE / 2) / SIZE, -(rows + 0.5 - SIZE / 2) / SIZE, -torch.ones(len(rows))], 1
    )
    points = pose[:, 3] + depth[rows, columns] * (in_camera @ pose[:, :3].T)
    assert points[:, 2].abs().max() < 1e-4  # the square lies in the plane z = 0


@pytest.mark.parametrize("distance", [4.0, 13.0])
def test_renders_are_differentiable_with_respect_to_a_new_texture(distance: float) -> None:
    generator = torch.Generator().manual_seed(1)
    texture, weights = (torch.rand(size, size, 3, generator=generator) for size in (16, SIZE))
    scene = square(uvs=SQUARE_UVS, texture=torch.zeros_like(texture))
    camera = FACING.clone()
    camera[2, 3] = distance

    def seen(texels: Tensor) -> Tensor:
        scene.repaint(texels)
        return (weights * scene.render(camera, FILLING, SIZE, SIZE, 2)[0]).sum()

    texture.requires_grad_()
    value = seen(texture)
    (gradient,) = torch.autograd.grad(value, texture)
    torch.testing.assert_close((gradient * texture).sum(), value, rtol=1e-4, atol=0)  # renders are linear in texels
    changed = torch.rand(16, 16, 3, generator=generator)
    torch.testing.assert_close(seen(changed), (gradient * changed).sum(), rtol=1e-4, atol=0)
