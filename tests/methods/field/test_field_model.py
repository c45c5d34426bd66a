# SPDX-License-Identifier: Apache-2.0
"""A finished field as a model: what it renders, empty space, crops, checkpoints, and training it further."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox, SceneBox
from triplanes import ball_field, random_field

from img3d_assets.fields.triplane import TriplaneField
from img3d_methods.field.field_model import Img3dFieldModel, Img3dFieldModelConfig
from img3d_methods.representation import Representation, representation_of
from img3d_methods.viewing.ray_bundles import FAR


def model_of(field: TriplaneField | None, **options: Any) -> Img3dFieldModel:
    """A model as Nerfstudio makes it from data that hold a field, rendering."""
    config = Img3dFieldModelConfig(**{"occupancy_resolution": 20, **options})
    metadata = {} if field is None else {"field": field}
    box = SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]))
    return Img3dFieldModel(config, scene_box=box, num_train_data=1, metadata=metadata).eval()


def camera(size: int = 32) -> Cameras:
    """On the x axis, at distance 2, looking at the origin; z is up in the picture."""
    pose = torch.tensor([[0.0, 0, 1, 2], [1, 0, 0, 0], [0, 1, 0, 0]])
    return Cameras(
        pose[None], float(size), float(size), size / 2, size / 2, size, size, camera_type=CameraType.PERSPECTIVE
    )


def rays_along_x(count: int = 1) -> RayBundle:
    return RayBundle(
        origins=torch.tensor([[2.0, 0, 0]]).repeat(count, 1),
        directions=torch.tensor([[-1.0, 0, 0]]).repeat(count, 1),
        pixel_area=torch.ones(count, 1),
        camera_indices=torch.zeros(count, 1, dtype=torch.long),
    )


def test_it_says_what_it_holds() -> None:
    model = model_of(ball_field())
    assert isinstance(model, Representation) and representation_of(model) is model
    assert model.asset() is model.field


@torch.no_grad()
def test_a_ball_is_seen_where_it_is() -> None:
    outputs = model_of(ball_field(), eval_num_rays_per_chunk=100).get_outputs_for_camera(camera())
    middle, corner = outputs["accumulation"][16, 16], outputs["accumulation"][0, 0]
    assert middle > 0.99 and corner < 0.01
    # half of the light is absorbed a little inside the surface, where the density passes that of the surface
    assert 1.45 < outputs["depth"][16, 16] < 1.6
    assert 2 < outputs["depth"][0, 0] < 5, "behind the field, but a picture of depth still has contrast"
    assert (outputs["rgb"][0, 0] > 0.99).all(), "the background is white"
    assert outputs["rgb"][16, 16, 0] > 0.9, "red grows along x"


@torch.no_grad()
def test_normals_point_out_of_the_surface() -> None:
    rays = rays_along_x(3)
    rays.origins[1, 1:] = torch.tensor([0.3, -0.2])
    rays.origins[2, 1] = 0.9  # past the ball
    outputs = model_of(ball_field())(rays)
    points = rays.origins + outputs["depth"] * rays.directions
    expected = torch.nn.functional.normalize(points[:2], dim=-1)
    torch.testing.assert_close(2 * outputs["normals"][:2] - 1, expected, atol=0.05, rtol=0)
    assert (outputs["normals"][2] == 0.5).all()


@torch.no_grad()
def test_rays_that_see_nothing_end_nowhere() -> None:
    model, rays = model_of(ball_field()), rays_along_x(2)
    rays.origins[1, 1] = 0.9  # past the ball, through the field's box
    depth = model(rays)["depth"]
    assert depth[0] < 2 and depth[1] == FAR, "a finite depth would be a surface for ns-export tsdf"


@torch.no_grad()
def test_exporters_get_colours_without_the_background() -> None:
    model, rays = model_of(ball_field()), rays_along_x(2)
    rays.fars = torch.tensor([[1.53], [9.0]])  # the first ray ends inside the surface's fog
    outputs = model(rays)
    rgba = model.get_rgba_image(outputs)
    torch.testing.assert_close(rgba[:, 3:], outputs["accumulation"])
    assert 0.05 < rgba[0, 3] < 0.95 < rgba[1, 3]
    torch.testing.assert_close(rgba[0, :3], rgba[1, :3], atol=0.03, rtol=0)


@torch.no_grad()
def test_empty_space_is_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, fast = model_of(ball_field(), occupancy_resolution=0), model_of(ball_field())
    evaluated = {}
    for name, model in (("exact", exact), ("fast", fast)):
        model.occupied()
        field = model.held()
        query, sizes = field.query, []
        monkeypatch.setattr(
            field, "query", lambda points, query=query, sizes=sizes: sizes.append(len(points)) or query(points)
        )
        evaluated[name] = model.get_outputs_for_camera(camera()), sum(sizes)
        assert sizes
    for output, values in evaluated["exact"][0].items():
        atol = 0.02 if output == "depth" else 0.01
        torch.testing.assert_close(evaluated["fast"][0][output], values, atol=atol, rtol=0)


@torch.no_grad()
def test_rays_end_at_their_fars_and_at_the_crop_box() -> None:
    model, rays = model_of(ball_field()), rays_along_x()
    assert model(rays)["accumulation"] > 0.99
    rays.fars = torch.tensor([[1.2]])
    assert model(rays)["accumulation"] < 0.01
    box = OrientedBox(torch.eye(3), torch.tensor([0.0, 0, 5]), torch.ones(3))
    assert model.get_outputs_for_camera(camera(), obb_box=box)["accumulation"].max() < 0.01


@pytest.mark.parametrize("shape", [(7,), (3, 5), (0,)], ids=str)
def test_outputs_have_the_shape_of_the_rays(shape: tuple[int, ...]) -> None:
    count = int(torch.tensor(shape).prod())
    outputs = model_of(random_field())(rays_along_x(count).reshape(shape))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "rgb": (*shape, 3),
        "accumulation": (*shape, 1),
        "depth": (*shape, 1),
        "normals": (*shape, 3),
    }


@torch.no_grad()
def test_a_checkpoint_has_the_field_whatever_its_size() -> None:
    saved, loaded = model_of(ball_field(size=20)), model_of(random_field())
    loaded.load_state_dict(saved.state_dict())
    empty = model_of(None)
    empty.load_state_dict(saved.state_dict())
    for model in (loaded, empty):
        ours, theirs = model(rays_along_x()), saved(rays_along_x())
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_can_be_trained_further() -> None:
    torch.manual_seed(0)
    model = model_of(random_field())
    model.train()
    groups = model.get_param_groups()
    optimizer = torch.optim.Adam([weight for group in groups.values() for weight in group], lr=0.02)
    batch = {"image": torch.tensor([[1.0, 0, 0, 1]])}
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = model.get_loss_dict(model(rays_along_x()), batch)["rgb_loss"]
        loss.backward()
        optimizer.step()
        model._after_step(step)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
