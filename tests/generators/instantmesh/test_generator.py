# SPDX-License-Identifier: Apache-2.0
"""InstantMesh as a generator: from an image or views to a mesh or a field, in small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from small_instantmesh import small_network, write_small
from zero123plus_repositories import picture, tiny_zero123plus, write_repository

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.instantmesh.cameras import FEWER_VIEWS, camera_numbers
from img3d_generators.instantmesh.heads import FieldHead, MeshHead
from img3d_generators.instantmesh.network import load_instantmesh
from img3d_generators.networks.devices import Precision, default_device, dtype_of
from img3d_generators.pairing import choose
from img3d_generators.posed_views import PosedViews
from img3d_generators.weights import weight_files
from img3d_generators.zero123plus import model as zero123plus_module

RIG = ZERO123PLUS_RIGS["v1.2"]
SCALE = RIG.radius / 4


@pytest.fixture(scope="module")
def views_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Zero123++ that paints on white."""
    folder = write_repository(tmp_path_factory.mktemp("weights") / "instantmesh-zero123plus-white", tiny_zero123plus())
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    from safetensors.torch import load_file

    torch.save({key: value.clone() for key, value in load_file(unet).items()}, unet.with_suffix(".bin"))
    unet.unlink()
    return folder


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, views_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small weights, and a grid of tiles of 64 x 64 pixels, which are painted in moments."""
    torch.set_num_threads(1)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / views_weights.name).symlink_to(views_weights)
    monkeypatch.setenv("IMG3D_WEIGHTS", str(folder))
    monkeypatch.setattr(zero123plus_module, "GRID_SIZE", (192, 128))
    monkeypatch.setattr(weight_files, "_has_size", lambda path, file: path.is_file())  # the published ones are large
    return folder


@pytest.fixture
def views() -> PosedViews:
    """Noise from Zero123++'s cameras."""
    torch.manual_seed(3)
    return PosedViews(torch.rand(6, 3, 40, 40), RIG.camera_to_worlds(), RIG.fov)


def test_an_image_becomes_a_mesh_that_other_programs_open(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small(weights, "instantmesh-mesh-base", monkeypatch)
    picture(96).save(tmp_path / "disc.png")
    mesh = generate("instantmesh", tmp_path / "disc.png", num_steps=2, quality="fast", texture_size=64)
    assert isinstance(mesh, Mesh) and mesh.up == "y" and len(mesh.faces) > 100
    assert mesh.texture is not None and mesh.texture.shape == (64, 64, 3)
    assert np.abs(mesh.vertices).max() < 1.1 * SCALE
    assert mesh.colors.min() >= 0 and mesh.colors.max() <= 1
    mesh.save(tmp_path / "disc.glb")
    opened = trimesh.load(tmp_path / "disc.glb", force="mesh")
    assert len(opened.faces) == len(mesh.faces)  # pyright: ignore[reportAttributeAccessIssue]


def test_meshes_are_in_the_world_of_the_views(
    weights: Path, views: PosedViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small(weights, "instantmesh-mesh-large", monkeypatch)
    made, fewer = generate("instantmesh", views), generate("instantmesh-mesh-large", views, views=4)
    network = small_network("mesh")
    assert isinstance(network.head, MeshHead)
    for mesh, used in ((made, views), (fewer, views.pick(FEWER_VIEWS))):
        assert isinstance(mesh, Mesh)
        planes = network.planes(used.images, camera_numbers(used))
        own = network.head.mesh(planes, network.config.grid_resolution, network.config.grid_scale)
        # x towards the viewer, y right, z up, cameras at distance 4
        np.testing.assert_allclose(mesh.vertices, SCALE * own.vertices[:, [1, 2, 0]], atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, own.faces)
    assert isinstance(made, Mesh) and isinstance(fewer, Mesh)
    assert made.vertices.shape != fewer.vertices.shape or np.abs(made.vertices - fewer.vertices).max() > 1e-3


@pytest.mark.parametrize(("options", "precision"), [({}, "float32"), ({"precision": "fast"}, "fast")])
def test_fields_are_in_the_world_of_the_views(
    weights: Path, views: PosedViews, options: dict[str, Any], precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small(weights, "instantmesh-nerf-base", monkeypatch)
    field = generate("instantmesh-nerf", views, **options)
    assert isinstance(field, TriplaneField) and field.up == "y"
    network = small_network("field")
    assert isinstance(network.head, FieldHead)
    planes = network.planes(views.images, camera_numbers(views), dtype_of(precision, default_device()))
    points = torch.tensor([[0.5, 0.2, -0.3]])
    density, rgb = network.head.field(planes).query(points)
    at = SCALE * points[:, [1, 2, 0]]
    torch.testing.assert_close(field.query(at)[0] * SCALE, density)
    torch.testing.assert_close(field.query(at)[1], rgb)


PICTURES = torch.rand(5, 3, 8, 8)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"fov": 49.1}, {}, "takes views by a lens of 30 degrees, .* these have 49.1"),
        ({"camera_to_worlds": RIG.camera_to_worlds() * torch.linspace(1, 2, 6)[:, None, None]}, {}, "at one distance"),
        ({"images": PICTURES[:3], "camera_to_worlds": RIG.camera_to_worlds()[:3]}, {}, "these are 3"),
        ({"images": PICTURES, "camera_to_worlds": RIG.camera_to_worlds()[:5]}, {"views": 4}, "these are 5"),
        ({}, {"bridge": "pad"}, "instantmesh has no option bridge; it has views, precision, texture_size"),
    ],
)
def test_views_and_options_that_do_not_fit_are_refused(
    change: dict, options: dict, message: str, weights: Path, views: PosedViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small(weights, "instantmesh-mesh-base", monkeypatch)
    given = PosedViews(**{"images": views.images, "camera_to_worlds": RIG.camera_to_worlds(), "fov": RIG.fov, **change})
    with pytest.raises(InputError, match=message):
        generate("instantmesh", given, **options)


def test_without_weights_one_line_says_how_to_get_them(weights: Path) -> None:
    with pytest.raises(InputError, match=r"img3d-weights fetch instantmesh-mesh-large \(1.51 GB, Apache-2.0\)") as said:
        generate("instantmesh", "photo.png")
    assert "\n" not in str(said.value)
    (weights / "instantmesh-zero123plus-white").unlink()
    with pytest.raises(InputError, match="fetch instantmesh-zero123plus-white .*, and .*instantmesh-mesh-large"):
        choose("instantmesh")


def test_views_on_white_are_preferred_and_other_cameras_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img3d_generators.pairing.available", lambda name: Path())
    choice = choose("instantmesh")
    assert (choice.view_generator, choice.network) == ("instantmesh-zero123plus-white", "instantmesh-mesh-large")
    assert choose("instantmesh", "zero123plus-v1.2", "instantmesh-mesh-base").network == "instantmesh-mesh-base"
    with pytest.raises(InputError, match="instantmesh does not have zero123plus-v1.1 for a stage"):
        choose("instantmesh", "zero123plus-v1.1")
    assert choose("object", gives="Gaussians").generator.name == "lgm"


def test_weights_are_loaded_strictly(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_small(weights, "instantmesh-mesh-base", monkeypatch)
    content = torch.load(path)
    content["state_dict"].pop("lrm_generator.transformer.norm.bias")
    torch.save(content, path)
    with pytest.raises(InputError, match="does not fit InstantMesh, .*transformer.norm.bias is missing"):
        load_instantmesh(path, small_network("mesh").config)
