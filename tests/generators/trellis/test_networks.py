# SPDX-License-Identifier: Apache-2.0
"""TRELLIS's networks and samplers: the reference's numbers at every stage, and from a picture to assets."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures, seeded_weights
from mesh_sets import assert_same_mesh
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from torch import nn
from trellis_goldens import array, check, network_of, settings_of

from img3d_assets.meshing.flexicubes import DualSurface
from img3d_base.errors import InputError
from img3d_generators.networks.dinov2 import Dinov2, authors_weights
from img3d_generators.trellis.conditioning import condition_of, framed, on_black
from img3d_generators.trellis.cube_features import GridValues, surface_of_cubes
from img3d_generators.trellis.decoders import GaussianDecoder, MeshDecoder
from img3d_generators.trellis.latent_flow import LatentFlow
from img3d_generators.trellis.samplers import Sampler, SamplerSettings
from img3d_generators.trellis.structure import StructureDecoder, StructureFlow, occupied
from img3d_generators.trellis.transformer import time_waves
from img3d_generators.trellis.voxels import VoxelGrid
from img3d_kernels.spherical_harmonics import rgb_to_sh

Y_UP = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""The rotation in the reference's PLY files."""


class Notes(dict[str, torch.Tensor]):
    """What parts of a network return, by the names of a fixture's arrays."""

    def of(self, name: str, module: nn.Module, item: int | None = None) -> None:
        """Notes what a part returns: of one item of the batch, or of all."""

        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            self[name] = output if item is None else output[item]

        module.register_forward_hook(hook)

    def check(self, golden: Golden, *expected: str) -> None:
        """Compares with the arrays of these names, which may have every so many rows only."""
        compared = [name for name in self if name in golden.arrays]
        assert set(expected) <= set(compared), sorted(set(expected) - set(compared))
        for name in compared:
            check(golden, name, golden.sampled(name, self[name]))


def picture_of(golden: Golden, field: str, index: int | str = "") -> torch.Tensor:
    """A picture that a sidecar names, `[3, H, W]` in [0, 1]."""
    rule = re.search(r'image\("(.*?)(?:<i>)?", (\d+), (\d+), seed=(\d+)\)', golden.sidecar[field])
    assert rule is not None
    pixels = seeded_weights().image(f"{rule[1]}{index}", *map(int, rule.groups()[1:3]), seed=int(rule[4]))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@golden_fixtures("trellis_", "x_prenorm")
@torch.no_grad()
def test_dinov2_gives_the_references_numbers(golden: Golden) -> None:
    model: Dinov2 = network_of(golden, "dinov2")
    images, notes = array(golden, "images"), Notes()
    torch.testing.assert_close(images, torch.stack([picture_of(golden, "pictures", i) for i in range(len(images))]))
    notes.of("block0_attention", model.blocks[0].attn["proj"])  # pyright: ignore
    for i, block in enumerate(model.blocks):
        notes.of(f"block{i}", block)
    model.patch_embed["proj"].register_forward_hook(
        lambda module, inputs, output: notes.update(patch_embed=output.flatten(2).transpose(1, 2))
    )
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: notes.update(tokens_in=inputs[0]))
    notes["x_prenorm"] = model(images)
    notes["x_norm_patchtokens"] = model.norm(notes["x_prenorm"])[:, 1 + model.config.num_register_tokens :]
    notes["cond"] = condition_of(model, images)
    notes.check(golden, "tokens_in", "block0_attention", "block1", "cond")
    check(golden, "rect_x_prenorm", model(picture_of(golden, "pictures_rect")[None]))


@torch.no_grad()
def test_dinov2_reads_hugging_faces_layout() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, num_register_tokens=4
    )
    theirs = transformers.Dinov2WithRegistersModel(config).eval()
    for weight in theirs.parameters():
        weight.copy_(torch.randn_like(weight) / 4)
    from img3d_generators.networks.dinov2 import Dinov2Config
    from img3d_generators.networks.imagenet import normalised

    ours = Dinov2(Dinov2Config(embed_dim=32, depth=2, num_heads=2, img_size=56)).eval()
    now = theirs.state_dict()
    earlier = {re.sub(r"attention\.(q|k|v|o)_proj", _name_before_its_fifth_version, name): now[name] for name in now}
    assert any("attention.attention.query" in name for name in earlier)
    for layout in (now, earlier):
        ours.load_state_dict(authors_weights(layout))
        image = torch.rand(1, 3, 56, 56)
        expected = theirs(normalised(image)).last_hidden_state
        torch.testing.assert_close(ours.norm(ours(image)), expected, atol=1e-4, rtol=0)
    assert authors_weights(ours.state_dict()).keys() == ours.state_dict().keys()


def _name_before_its_fifth_version(found: re.Match[str]) -> str:
    return {"q": "attention.attention.query", "k": "attention.attention.key", "v": "attention.attention.value"}.get(
        found[1], "attention.output.dense"
    )


@golden_fixtures("trellis_", "block0_modulation", "dec_logits")
@torch.no_grad()
def test_the_structures_flow_gives_the_references_numbers(golden: Golden) -> None:
    model: StructureFlow = network_of(golden, "sparse_structure_flow_model")
    notes, block = Notes(), model.blocks[0]
    check(golden, "pos_emb", model.pos_emb)
    check(golden, "t_frequencies", time_waves(array(golden, "t")))
    notes.of("t_emb", model.t_embedder)
    model.input_layer.register_forward_hook(lambda module, inputs, output: notes.update(input_tokens=output[1]))
    notes.of("block0_modulation", block.adaLN_modulation)  # pyright: ignore
    notes.of("block0_self_attention", block.self_attn, 1)  # pyright: ignore
    notes.of("block0_cross_attention", block.cross_attn, 1)  # pyright: ignore
    notes.of("block0_mlp", block.mlp, 1)  # pyright: ignore
    notes.of("block0", block, 1)
    notes.of("block1", model.blocks[1], 1)
    conditions = [model.prepared(one) for one in array(golden, "cond")]
    x, t = array(golden, "x"), array(golden, "t")
    notes["v"] = model(x, t, conditions[: len(x)])
    notes.check(golden, "t_emb", "input_tokens", "block0_mlp", "block1", "v")


@golden_fixtures("trellis_", "guided_x_t", "multi_stochastic_x_t")
@torch.no_grad()
def test_samplers_give_the_references_states(golden: Golden) -> None:
    model: StructureFlow = network_of(golden, "sparse_structure_flow_model")
    images = array(golden, "cond")
    conditions = [model.prepared(one) for one in images]
    negative = model.prepared(torch.zeros(1, images.shape[2]))  # as good as any number of zeros
    for name, said in golden.sidecar["samplers"].items():
        several, count = ("multidiffusion" if "multidiffusion" in name else "stochastic"), said.get("images", 1)
        settings, calls = settings_of(said), []
        counted = functools.partial(_noted, calls, model)
        sampler = Sampler(counted, conditions[:count], negative, settings, several)  # pyright: ignore
        state, states = array(golden, "noise"), []
        for index in range(settings.steps):
            state = sampler.step(state, index)
            states.append(state[0])
        check(golden, f"{name}_x_t", torch.stack(states))
        if "model_calls" in said:
            made = [time for time, count in calls for _ in range(count)]
            assert made == [call["t"] for call in said["model_calls"]]
        assert sum(count for _, count in calls) == settings.velocities(count, several)  # pyright: ignore
    for name, said in golden.sidecar["guided_steps"].items():
        steps, rescale, low, high = map(float, re.findall(r"[\d.]+", name))
        settings = SamplerSettings(int(steps), 1, (low, high), rescale)
        assert sum(map(settings.is_guided, settings.times()[:-1])) == said
        check(golden, f"t_seq_{int(steps)}_r{rescale:g}", settings.times())


def _noted(calls: list, model: StructureFlow, states: torch.Tensor, time: torch.Tensor, asked: Any) -> torch.Tensor:
    calls.append((float(time), len(states)))
    return model(states, time, asked)


def test_a_straight_flow_ends_at_the_object() -> None:
    noise, wanted = torch.randn(1, 5), torch.arange(5.0)[None]
    sampler = Sampler(lambda x, t, c: (noise - wanted).expand(len(x), -1), [0], 0, SamplerSettings(7, 3, (0, 1), 2))
    state = noise
    for index in range(7):
        state = sampler.step(state, index)
    torch.testing.assert_close(state, wanted, atol=1e-5, rtol=0)


@golden_fixtures("trellis_", "dec_logits")
@torch.no_grad()
def test_the_structures_decoder_gives_the_references_numbers(golden: Golden) -> None:
    model: StructureDecoder = network_of(golden, "sparse_structure_decoder")
    notes = Notes()
    notes.of("dec_input", model.input_layer)
    notes.of("dec_middle", model.middle_block)
    up = next(block for block in model.blocks if hasattr(block, "conv"))
    notes.of("dec_up", up)
    notes.of("dec_up_conv", up.conv)  # pyright: ignore
    notes["dec_logits"] = logits = model(array(golden, "dec_z"))
    notes.check(golden, "dec_input", "dec_middle", "dec_up", "dec_logits")
    np.testing.assert_array_equal(occupied(logits), golden.arrays["dec_coords"][:, 1:])


@golden_fixtures("trellis_", "input_block1", "batch2_v")
@torch.no_grad()
def test_the_latents_flow_gives_the_references_numbers(golden: Golden) -> None:
    model: LatentFlow = network_of(golden, "slat_flow_model")
    notes, grid = Notes(), VoxelGrid(array(golden, "coords")[:, 1:])
    notes.of("t_emb", model.t_embedder)
    notes.of("input_layer", model.input_layer, 0)
    notes.of("input_block0", model.input_blocks[0], 0)
    notes.of("input_block1", model.input_blocks[1], 0)
    notes.of("block0_self_attention", model.blocks[0].self_attn, 0)  # pyright: ignore
    notes.of("block0_cross_attention", model.blocks[0].cross_attn, 0)  # pyright: ignore
    notes.of("block0", model.blocks[0], 0)
    notes.of("block1", model.blocks[1], 0)
    notes.of("out_block0", model.out_blocks[0], 0)
    notes.of("out_block1", model.out_blocks[1], 0)
    conditions = [model.prepared(one) for one in array(golden, "cond")]
    notes["v"] = model(array(golden, "x")[None], array(golden, "t"), conditions[:1], grid)[0]
    notes.check(golden, "input_layer", "input_block1", "block1", "out_block0", "out_block1", "v")
    np.testing.assert_array_equal(grid.coarser[0].coords, golden.arrays["coords_down"][:, 1:])

    batch, given = array(golden, "batch2_coords"), array(golden, "batch2_x")
    found = torch.full_like(given, torch.nan)
    for item in range(len(conditions)):
        rows = batch[:, 0] == item
        time = array(golden, "batch2_t")[item, None]
        found[rows] = model(given[None, rows], time, [conditions[item]], VoxelGrid(batch[rows, 1:]))[0]
    check(golden, "batch2_v", found)

    settings = settings_of(golden.sidecar["sampler"])
    negative = model.prepared(torch.zeros_like(array(golden, "cond")[0]))
    sampler = Sampler(lambda x, t, c: model(x, t, c, grid), conditions[:1], negative, settings)
    state, states = array(golden, golden.sidecar["sampler"]["noise"])[None], []
    for index in range(settings.steps):
        state = sampler.step(state, index)
        states.append(state[0])
    check(golden, "sampled", torch.stack(states))


def check_gaussians(golden: Golden, made: Any, rows: slice | np.ndarray, prefix: str = "") -> None:
    for name, values in {
        "xyz": made.means,
        "features_dc": rgb_to_sh(made.colors),
        "scaling": made.scales,
        "rotation": made.quats,
        "opacity": made.opacities,
    }.items():
        check(golden, prefix + name, values[rows])


@golden_fixtures("trellis_", "offset_perturbation", "trunk")
@torch.no_grad()
def test_the_gaussians_decoder_gives_the_references_numbers(golden: Golden) -> None:
    model: GaussianDecoder = network_of(golden, "slat_decoder_gs")
    grid, latents, notes = VoxelGrid(array(golden, "coords")[:, 1:]), array(golden, "x")[None], Notes()
    check(golden, "offset_perturbation", model.offset_perturbation)
    for i, block in enumerate(model.blocks):
        notes.of(f"block{i}_attention", block.attn, 0)  # pyright: ignore
    notes["trunk"] = model.tokens(latents, grid)[0]
    notes["raw"] = said = model(latents, grid)
    notes.check(golden, "trunk", "raw", "block1_attention")
    made = model.gaussians(said, grid)
    check_gaussians(golden, made, slice(None))
    check(golden, "ply_xyz", made.means @ Y_UP.T)
    rotations = Rotation.from_quat(
        golden.sampled("ply_rotation_matrix", made.quats).numpy(), scalar_first=True
    ).as_matrix()
    check(golden, "ply_rotation_matrix", Y_UP.numpy() @ rotations)


@torch.no_grad()
def test_gaussians_of_which_nothing_is_said() -> None:
    from img3d_generators.trellis.decoders import GaussianDecoderConfig, hammersley

    model = GaussianDecoder(GaussianDecoderConfig(model_channels=48, num_heads=4, num_blocks=1))
    grid = VoxelGrid(torch.tensor([[3, 60, 20]]))
    made = model.gaussians(torch.zeros(1, 14 * 32), grid)
    torch.testing.assert_close(made.opacities, torch.full((32,), 0.1))
    torch.testing.assert_close(made.scales, torch.full((32, 3), (0.004**2 + 0.0009**2) ** 0.5))
    assert made.quats.tolist() == [[1, 0, 0, 0]] * 32
    expected = (grid.coords + hammersley(32)) / 64 - 0.5  # all over the voxel
    torch.testing.assert_close(made.means, expected, atol=1e-6, rtol=0)


@golden_fixtures("trellis_", "up0_conv0", "vertex_attrs")
@torch.no_grad()
def test_the_meshs_decoder_gives_the_references_numbers(golden: Golden) -> None:
    model: MeshDecoder = network_of(golden, "slat_decoder_mesh")
    grid, latents, notes = VoxelGrid(array(golden, "coords")[:, 1:]), array(golden, "x")[None], Notes()
    first, second = model.upsample
    notes.of("up0_act", first.act_layers, 0)  # pyright: ignore
    notes.of("up0", first, 0)
    notes.of("up1", second, 0)
    notes["trunk"] = model.tokens(latents, grid)[0]
    said = model(latents, grid)
    notes["raw"] = said
    notes.check(golden, "trunk", "up0_act", "up0", "up1", "raw")
    np.testing.assert_array_equal(grid.finer.coords, golden.arrays["up0_coords"][:, 1:])
    cubes = grid.finer.finer.coords
    np.testing.assert_array_equal(golden.sampled("raw_coords", cubes), golden.arrays["raw_coords"][:, 1:])
    resolution = golden.sidecar["mesh"]["res"]
    assert resolution == 4 * model.config.resolution
    surface = surface_of_cubes(cubes.numpy(), said.numpy(), resolution)
    check_mesh(golden, "", surface)
    mesh = model.mesh(said, grid)
    np.testing.assert_array_equal(mesh.vertices, surface.vertices)
    np.testing.assert_array_equal(mesh.colors, surface.attributes[:, :3])


def check_mesh(golden: Golden, prefix: str, surface: DualSurface) -> None:
    expected = golden.arrays[f"{prefix}vertices"], golden.arrays[f"{prefix}faces"]
    order = assert_same_mesh(surface.vertices, surface.faces, *expected, golden.tolerance(f"{prefix}vertices", 1e-6))
    check(golden, f"{prefix}vertex_attrs", surface.attributes[order])


@golden_fixtures("trellis_", "a_grid_vertices", "a_feats")
def test_what_is_said_of_cubes_becomes_the_references_mesh(golden: Golden) -> None:
    for name, said in golden.sidecar["meshes"].items():
        cubes, features = golden.arrays[f"{name}_coords"][:, 1:].astype(np.int64), golden.arrays[f"{name}_feats"]
        resolution = golden.sidecar["config"]["res"]
        values = GridValues(cubes, features, resolution)
        np.testing.assert_array_equal(values.vertices(), golden.arrays[f"{name}_grid_vertices"])
        of_vertices = np.column_stack([values.distances, values.deformations(), values.attributes()])
        check(golden, f"{name}_grid_attrs", of_vertices, 1e-6)
        surface = surface_of_cubes(cubes, features, resolution)
        assert (len(surface.vertices), len(surface.faces)) == (said["vertices"], said["faces"])
        check_mesh(golden, f"{name}_", surface)


@golden_fixtures("trellis_", "slat_noise", "mesh_attrs_sample")
@torch.no_grad()
def test_a_picture_becomes_the_references_assets(golden: Golden) -> None:
    config = golden.sidecar["config"]
    image = picture_of(golden, "picture")[None]
    condition = condition_of(network_of(golden, "image_cond_model"), image)
    check(golden, "cond", condition)
    nothing = torch.zeros_like(condition[0])

    random = torch.Generator().manual_seed(golden.sidecar["torch_manual_seed"])
    flow: StructureFlow = network_of(golden, "sparse_structure_flow_model")
    settings = settings_of(config["sparse_structure_sampler_params"])
    state = torch.randn(golden.arrays["noise"].shape, generator=random)
    check(golden, "noise", state, 0)
    sampler = Sampler(flow, [flow.prepared(condition[0])], flow.prepared(nothing), settings)
    for index in range(settings.steps):
        state = sampler.step(state, index)
    check(golden, "z_s", state)
    logits = network_of(golden, "sparse_structure_decoder")(state)
    check(golden, "logits", logits)
    coords = occupied(logits)
    np.testing.assert_array_equal(coords, golden.arrays["coords"][:, 1:])

    grid, latent_flow = VoxelGrid(coords), network_of(golden, "slat_flow_model")
    settings = settings_of(config["slat_sampler_params"])
    state = torch.randn(1, len(grid), latent_flow.config.in_channels, generator=random)
    check(golden, "slat_noise", state, 0)
    conditions = [latent_flow.prepared(condition[0])], latent_flow.prepared(nothing)
    sampler = Sampler(lambda x, t, c: latent_flow(x, t, c, grid), *conditions, settings)
    for index in range(settings.steps):
        state = sampler.step(state, index)
    latents = state * torch.tensor(config["slat_normalization"]["std"]) + torch.tensor(
        config["slat_normalization"]["mean"]
    )
    check(golden, "slat", latents)

    decoder: GaussianDecoder = network_of(golden, "slat_decoder_gs")
    made = decoder.gaussians(decoder(latents, grid), grid)
    check_gaussians(golden, made, golden.arrays["gaussian_index"], "gaussian_")
    mesh_decoder: MeshDecoder = network_of(golden, "slat_decoder_mesh")
    said = mesh_decoder(latents, grid).numpy()
    resolution = 4 * mesh_decoder.config.resolution
    surface = surface_of_cubes(grid.finer.finer.coords.numpy(), said, resolution)
    # A distance as close to 0 as some here can change its sign.
    assert abs(len(surface.vertices) - golden.sidecar["mesh"]["vertices"]) < 10
    assert abs(len(surface.faces) - golden.sidecar["mesh"]["faces"]) < 20
    distance, nearest = map(np.asarray, KDTree(surface.vertices).query(golden.arrays["mesh_vertices_sample"]))
    assert distance.max() < golden.tolerance("mesh_vertices_sample", 2e-5)
    check(golden, "mesh_attrs_sample", surface.attributes[nearest])


@golden_fixtures("trellis_", "prep_rgba", "prep_values")
def test_framing_is_the_references_to_the_bit(golden: Golden, tmp_path: Path) -> None:
    rgba = golden.arrays["prep_rgba"]
    square = framed(rgba, tmp_path / "a.png")
    assert list(square.shape[:2]) == golden.sidecar["preprocess"]["output_size"][:2]
    image = torch.from_numpy(square).permute(2, 0, 1).float() / 255
    pixels = (on_black(image) * 255).round().byte().permute(1, 2, 0).numpy()
    tolerance = golden.tolerance("prep_values", 1)  # other versions of Pillow round otherwise
    difference = np.abs(pixels.reshape(-1, 3)[golden.arrays["prep_index"]] - golden.arrays["prep_values"].astype(int))
    assert difference.max() <= tolerance
    rule = re.search(
        r"every (\d+)th output pixel, starting at (\d+)", golden.sidecar["arrays"]["prep_downsampled"]["meaning"]
    )
    assert rule is not None
    every = slice(int(rule[2]), None, int(rule[1]))
    difference = np.abs(pixels[every, every] - golden.arrays["prep_downsampled"].astype(int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize(("alpha", "message"), [(100, "shows nothing"), (255, "has only 5 pixels")])
def test_objects_that_cannot_be_framed_are_refused(alpha: int, message: str, tmp_path: Path) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[3:8, 3:8] = alpha
    with pytest.raises(InputError, match=message):
        framed(pixels, tmp_path / "a.png")
