# SPDX-License-Identifier: Apache-2.0
"""InstantMesh's network: the four published layouts, and the reference's numbers at every stage."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures, seeded_weights
from mesh_sets import assert_same_mesh
from scipy.spatial import KDTree

from img3d_assets.meshing.field_surface import surface_of
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.instantmesh.cameras import FEWER_VIEWS, camera_numbers
from img3d_generators.instantmesh.heads import (
    MAX_DEFORMATION,
    WEIGHT_SCALE,
    FieldHead,
    MeshHead,
    Texels,
    grid_side,
    with_a_surface,
)
from img3d_generators.instantmesh.network import InstantMesh, InstantMeshConfig, config_of
from img3d_generators.networks.vision_transformer import VisionTransformer, VitConfig
from img3d_generators.posed_views import PosedViews
from img3d_generators.weights.checkpoints import checkpoint
from img3d_kernels.ray_marching import lattice


def golden_config(golden: Golden) -> InstantMeshConfig:
    """The architecture in a sidecar."""
    model, vit = golden.sidecar["config"]["model"], golden.sidecar["config"]["vit"]
    assert model["triplane_high_res"] == 2 * model["triplane_low_res"]
    config = InstantMeshConfig(
        head="mesh" if "grid_res" in model else "field",
        image_size=golden.sidecar["config"]["image_size_px"],
        vit=VitConfig(**{name: vit[name] for name in VitConfig.__dataclass_fields__}),
        plane_size=model["triplane_low_res"],
        channels=model["transformer_dim"],
        num_layers=model["transformer_layers"],
        num_heads=model["transformer_heads"],
        plane_channels=model["triplane_dim"],
        grid_resolution=model.get("grid_res", 128),
        grid_scale=model.get("grid_scale", 2.1),
    )
    if config.head == "mesh":
        assert golden.sidecar["config"]["flexicubes_weight_scale"] == WEIGHT_SCALE
        assert golden.sidecar["config"]["deformation_multiplier"] == 1 / MAX_DEFORMATION
    return config


def golden_network(golden: Golden) -> InstantMesh:
    """The network that golden numbers were made with."""
    torch.set_num_threads(1)
    model = InstantMesh(golden_config(golden))
    assert sum(weight.numel() for weight in model.parameters()) == golden.sidecar["parameters"]
    golden.fill(model)
    return model.eval()


def golden_views(golden: Golden) -> tuple[torch.Tensor, torch.Tensor]:
    """A fixture's views and their cameras."""
    rule = re.search(r'image\("(.*)<i>", (\d+), (\d+), seed=(\d+)\), i = 0\.\.(\d+)', golden.sidecar["pictures"])
    assert rule is not None, golden.sidecar["pictures"]
    height, width, seed, last = map(int, rule.groups()[1:])
    pictures = np.stack([seeded_weights().image(f"{rule[1]}{i}", height, width, seed=seed) for i in range(last + 1)])
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == golden.sidecar["pictures_sha256"]
    return torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255, torch.from_numpy(golden.arrays["cameras"])


def check(golden: Golden, name: str, values: torch.Tensor | np.ndarray, default: float = 1e-5) -> None:
    """Compares with an array of a fixture."""
    expected = golden.arrays[name]
    tolerance = golden.tolerance(name, default)
    np.testing.assert_allclose(
        np.asarray(values).reshape(expected.shape), expected, atol=tolerance, rtol=0, err_msg=name
    )


@pytest.mark.parametrize("name", ["mesh_base", "mesh_large", "nerf_base", "nerf_large"])
def test_the_state_dict_has_the_published_keys_and_shapes(name: str, published_keys, layout_of) -> None:
    with torch.device("meta"):
        model = InstantMesh(config_of(checkpoint(f"instantmesh-{name.replace('_', '-')}").architecture))
    assert layout_of(model) == published_keys(f"instant_{name}")


@golden_fixtures("instantmesh_", "cameras")
def test_cameras_are_the_references(golden: Golden) -> None:
    rig = ZERO123PLUS_RIGS["v1.2"]
    views = PosedViews(torch.ones(6, 3, 8, 8), rig.camera_to_worlds(), rig.fov)
    check(golden, "cameras", camera_numbers(views), 1e-6)


@golden_fixtures("instantmesh_", "planes", "image_feats")
@torch.no_grad()
def test_every_stage_gives_the_references_numbers(golden: Golden) -> None:
    model, (images, cameras) = golden_network(golden), golden_views(golden)
    found: dict[str, torch.Tensor] = {}

    def note(name: str, which: int = 0) -> Any:
        """Keeps an output: of one of the batch, or of all (-1); every so many rows, as the fixture has."""

        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            values = output[0] if isinstance(output, tuple) else output
            values = values[which] if which >= 0 else values
            if name in golden.arrays:
                found[name] = golden.sampled(name, values)

        return hook

    vit = model.encoder.model
    assert isinstance(vit, VisionTransformer)
    model.encoder.camera_embedder.register_forward_hook(note("camera_embedding", which=-1))
    vit.embeddings.register_forward_hook(note("vit_embeddings_view0"))
    for i, layer in enumerate(vit.encoder["layer"]):  # pyright: ignore
        layer.register_forward_hook(note(f"vit_layer{i}_view0"))
        layer.attention["output"]["dense"].register_forward_hook(note(f"vit_layer{i}_attention_view0"))
    vit.register_forward_hook(note("image_feats", which=-1))
    for i, layer in enumerate(model.transformer.layers):
        layer.cross_attn.register_forward_hook(note(f"transformer_layer{i}_cross"))  # pyright: ignore
        layer.self_attn.register_forward_hook(note(f"transformer_layer{i}_self"))  # pyright: ignore
        layer.register_forward_hook(note(f"transformer_layer{i}"))
    model.transformer.norm.register_forward_hook(note("transformer_norm"))

    check(golden, "planes", model.planes(images, cameras))
    assert {"camera_embedding", "image_feats", "transformer_norm", "vit_layer0_attention_view0"} <= set(found)
    for name, values in found.items():
        check(golden, name, values)
    check(golden, "planes_4views", model.planes(images[list(FEWER_VIEWS)], cameras[list(FEWER_VIEWS)]))


@golden_fixtures("instantmesh_", "query_sigma", "planes")
@torch.no_grad()
def test_a_field_has_the_references_density_and_colour(golden: Golden) -> None:
    head = golden_network(golden).head
    assert isinstance(head, FieldHead)
    planes = torch.from_numpy(golden.arrays["planes"])
    field, points = head.field(planes), torch.from_numpy(golden.arrays["query_points"])
    density, rgb = field(points)
    check(golden, "query_features", field.features(points))
    check(golden, "query_sigma_raw", field.raw(points)[:, :1])
    check(golden, "query_sigma", density)
    check(golden, "query_rgb", rgb)
    rule = golden.sidecar["mesh"]
    resolution, threshold = rule["mesh_resolution"], rule["mesh_threshold"]
    mesh = surface_of(field, resolution, threshold, dense=True)
    assert len(mesh.vertices) == len(golden.arrays["mesh_vertices"])
    distance, nearest = map(np.asarray, KDTree(mesh.vertices).query(golden.arrays["mesh_vertices"]))
    assert distance.max() < golden.tolerance("mesh_vertices", 1e-3)
    colours = np.floor(mesh.colors[nearest] * 255)
    assert np.abs(colours - golden.arrays["mesh_colours"]).max() <= golden.tolerance("mesh_colours", 1)


@golden_fixtures("instantmesh_", "query_sdf", "planes")
@torch.no_grad()
def test_a_mesh_head_gives_the_references_numbers(golden: Golden) -> None:
    config, head = golden_config(golden), golden_network(golden).head
    assert isinstance(head, MeshHead)
    planes = torch.from_numpy(golden.arrays["planes"])
    texels, points = Texels(planes), torch.from_numpy(golden.arrays["query_points"])
    features, corners = texels.features(points), torch.from_numpy(golden.arrays["query_cube_indices"])
    resolution = config.grid_resolution
    check(golden, "query_sdf", head.net_sdf(features))
    check(golden, "query_deformation", head.net_deformation(features))
    check(golden, "query_weights", head.weights(features, corners))
    check(golden, "query_rgb", head.colors(texels, points))
    side = grid_side(resolution, config.grid_scale)
    grid = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1).view(-1, 3)
    check(golden, "grid_vertices", grid, 1e-7)
    check(golden, "grid_sdf", with_a_surface(head.distances(planes, side)))
    check(golden, "grid_deformation", head.deformations(texels.features(grid), resolution), 1e-6)
    mesh = head.mesh(planes, resolution, config.grid_scale)
    order = assert_same_mesh(
        mesh.vertices,
        mesh.faces,
        golden.arrays["mesh_vertices"],
        golden.arrays["mesh_faces"],
        golden.tolerance("mesh_vertices", 5e-5),
    )
    colours = np.floor(mesh.colors[order] * 255)
    assert np.abs(colours - golden.arrays["mesh_colours"]).max() <= golden.tolerance("mesh_colours", 1)


@golden_fixtures("instantmesh_", "allpositive_grid_sdf")
@pytest.mark.parametrize("name", ["allpositive", "allnegative"])
@torch.no_grad()
def test_a_shape_without_a_surface_becomes_the_references_shell(
    golden: Golden, name: str, capsys: pytest.CaptureFixture
) -> None:
    meaning = golden.sidecar["arrays"][f"{name}_grid_sdf"]["meaning"]
    shift = re.search(r"when ([+-][\d.]+) is added to the last bias", meaning)
    assert shift is not None, meaning
    config, head = golden_config(golden), golden_network(golden).head
    assert isinstance(head, MeshHead)
    last = head.net_sdf[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias.add_(float(shift[1]))
    planes, side = torch.from_numpy(golden.arrays["planes"]), grid_side(config.grid_resolution, config.grid_scale)
    check(golden, f"{name}_grid_sdf", with_a_surface(head.distances(planes, side)), 2e-5)
    mesh = head.mesh(planes, config.grid_resolution, config.grid_scale)
    expected = golden.arrays[f"{name}_mesh_vertices"], golden.arrays[f"{name}_mesh_faces"]
    assert_same_mesh(mesh.vertices, mesh.faces, *expected, golden.tolerance(f"{name}_mesh_vertices", 1e-5))
    assert "no surface" in capsys.readouterr().out


def test_the_grids_factorised_distances_are_those_of_its_points() -> None:
    torch.manual_seed(0)
    head, planes, side = MeshHead(4, 8), torch.randn(3, 4, 6, 6), torch.linspace(-1.05, 1.05, 7)
    points = lattice(side[:1].expand(3), side[-1:].expand(3), len(side))
    expected = head.net_sdf(Texels(planes).features(points)).view(7, 7, 7)
    torch.testing.assert_close(head.distances(planes, side), expected, atol=1e-6, rtol=0)
