# SPDX-License-Identifier: Apache-2.0
"""Triplanes: what they read where, their worlds, and their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from triplanes import ball_field, random_field

from img3d_assets.field import Field
from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.fields.triplane_files import read_triplane
from img3d_assets.mesh_files import read_mesh
from img3d_base.errors import InputError


def test_a_triplane_is_a_field() -> None:
    assert isinstance(random_field(), Field)


@torch.no_grad()
def test_features_are_those_of_bilinear_sampling_with_zeros_outside() -> None:
    field, points = random_field(), 2.6 * torch.rand(500, 3) - 1.3
    pairs = [points[:, list(pair)] for pair in field.layout.axes]
    sampled = torch.nn.functional.grid_sample(field.planes, torch.stack(pairs)[:, None], align_corners=False)
    torch.testing.assert_close(field.features(points), sampled[:, :, 0].permute(2, 0, 1).flatten(1))


@torch.no_grad()
def test_the_same_field_in_another_world_has_the_same_colours_and_scaled_densities() -> None:
    field, points = random_field(), 2 * torch.rand(100, 3) - 1
    turn = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    moved = field.turned(turn, 0.5, "y")
    (density, rgb), (elsewhere, same) = field.query(points), moved.query(0.5 * points @ turn.T)
    torch.testing.assert_close(elsewhere, 2 * density, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(same, rgb)
    torch.testing.assert_close(moved.bounds, 0.5 * field.bounds)
    assert moved.up == "y" and moved.surface_density == pytest.approx(2 * field.surface_density)


@torch.no_grad()
def test_outside_of_the_box_there_is_nothing() -> None:
    density, _ = random_field().query(torch.tensor([[0.0, 0, 1.01], [0, 0, 1], [-2, 0, 0]]))
    assert density[0] == 0 and density[1] > 0 and density[2] == 0


@torch.no_grad()
def test_a_saved_field_is_the_same(tmp_path: Path) -> None:
    field, points = random_field().turned(torch.eye(3), 3.0, "y"), torch.rand(50, 3)
    field.save(tmp_path / "new" / "field.safetensors")
    back = read_triplane(tmp_path / "new" / "field.safetensors")
    assert (back.layout, back.up) == (field.layout, "y")
    for ours, theirs in zip(back.query(points), field.query(points), strict=True):
        assert torch.equal(ours, theirs)


def test_a_field_is_saved_as_the_mesh_of_its_surface(tmp_path: Path) -> None:
    ball_field().turned(torch.eye(3), up="y").save(tmp_path / "ball.glb", resolution=24)
    mesh, up = read_mesh(tmp_path / "ball.glb")
    assert up == "y"
    np.testing.assert_allclose(np.abs(mesh.vertices).max(axis=0), 0.5, atol=0.05)
    with pytest.raises(InputError, match="has to end in"):
        ball_field().save(tmp_path / "ball.txt")


@pytest.mark.parametrize("what", ["cut", "text", "size", "layers", "activation", "other"])
def test_damaged_files_are_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = tmp_path / "field.safetensors"
    random_field().save(path)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "text":
        path.write_text("hello")
    else:
        state = load_file(path)
        extra = state["_extra_state"].numpy().tobytes()
        if what == "size":
            extra = extra.replace(b'"size": [5, 6]', b'"size": [500000000, 6]')
        if what == "layers":
            extra = extra.replace(b'"mlp": [12, 8, 2,', b'"mlp": [12, 8, 900000000,')
        if what == "activation":
            extra = extra.replace(b'"silu"', b'"none"')
        state["_extra_state"] = torch.frombuffer(bytearray(extra), dtype=torch.uint8)
        if what == "other":
            state.pop("rows")
        save_file(state, path)
    with pytest.raises(InputError, match="field.safetensors is damaged, or holds no triplane") as said:
        read_triplane(path)
    assert "\n" not in str(said.value)


def test_a_field_can_be_trained() -> None:
    torch.manual_seed(0)
    field, points = random_field(), torch.rand(64, 3)
    assert isinstance(field, TriplaneField)
    density, rgb = field(points)
    (density.sum() + rgb.sum()).backward()
    assert field.rows.grad is not None and field.rows.grad.abs().sum() > 0
