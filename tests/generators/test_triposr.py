# SPDX-License-Identifier: Apache-2.0
"""TripoSR: the published layout, the reference's numbers at every stage, and its preparation of images to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, golden_fixtures
from PIL import Image
from scipy.spatial import KDTree
from torch.nn.functional import interpolate

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.meshing.field_surface import surface_of
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.image_preparation import RGBA
from img3d_generators.networks.devices import Precision, default_device, dtype_of
from img3d_generators.networks.vision_transformer import VisionTransformer, VitConfig
from img3d_generators.triposr import generator
from img3d_generators.triposr.network import RADIUS, Triposr, TriposrConfig, field_of, load_triposr
from img3d_generators.triposr.preparation import framed, on_grey
from img3d_generators.weights import weight_files
from img3d_generators.weights.checkpoints import checkpoint
from img3d_kernels.ray_marching import in_box, lattice, march


def config_of(golden: Golden) -> TriposrConfig:
    """The architecture in a sidecar."""
    parts, vit = golden.sidecar["config"], golden.sidecar["vit_config"]
    backbone, decoder = parts["backbone"], parts["decoder"]
    assert parts["renderer"]["radius"] == RADIUS
    return TriposrConfig(
        image_size=parts["cond_image_size"],
        vit=VitConfig(**{name: vit[name] for name in VitConfig.__dataclass_fields__}),
        plane_size=parts["tokenizer"]["plane_size"],
        channels=parts["tokenizer"]["num_channels"],
        num_layers=backbone["num_layers"],
        num_heads=backbone["num_attention_heads"],
        head_size=backbone["attention_head_dim"],
        plane_channels=parts["post_processor"]["out_channels"],
        mlp_channels=decoder["n_neurons"],
        mlp_layers=decoder["n_hidden_layers"],
    )


def golden_network(golden: Golden) -> Triposr:
    """The network that golden numbers were made with."""
    with torch.device("meta"):  # initial weights of the published size would take half a minute
        model = Triposr(config_of(golden))
    model.to_empty(device="cpu")
    assert sum(weight.numel() for weight in model.parameters()) == golden.sidecar["parameters"]
    golden.fill(model)
    return model.eval()


def stages(model: Triposr, golden: Golden) -> dict[str, torch.Tensor]:
    """What a network makes of a fixture's picture, by the names of the arrays."""
    picture = golden.arrays["image_uint8"] if "image_uint8" in golden.arrays else golden.picture()
    assert hashlib.sha256(picture.tobytes()).hexdigest() == golden.sidecar["image_sha256"]
    found: dict[str, torch.Tensor] = {}
    vit = model.image_tokenizer["model"]
    assert isinstance(vit, VisionTransformer)

    def note(name: str) -> Any:
        return lambda module, inputs, output: found.__setitem__(name, output[0])

    hooks = [
        vit.register_forward_pre_hook(lambda module, inputs: found.__setitem__("rgb_cond", inputs[0])),
        vit.embeddings.register_forward_hook(note("vit_embeddings")),
        vit.register_forward_hook(note("image_tokens")),
        model.backbone.register_forward_hook(note("backbone_out")),
    ]
    field = model.generate(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
    for hook in hooks:
        hook.remove()
    found["scene_codes"] = field.planes
    return found | queried(field, torch.from_numpy(golden.arrays["query_points"]))


def queried(field: TriplaneField, points: torch.Tensor) -> dict[str, torch.Tensor]:
    """Raw and activated values, the density as the reference counts it: per path through the box."""
    raw, (density, rgb) = field.raw(points), field(points)
    assert field.path_length is not None
    return {
        "query_density": raw[:, :1],
        "query_features": raw[:, 1:],
        "query_density_act": density[:, None] * field.path_length,
        "query_color": rgb,
    }


def golden_field(golden: Golden) -> TriplaneField:
    """The field of a fixture's stored planes, with its decoder's weights."""
    return field_of(torch.from_numpy(golden.arrays["scene_codes"]), golden_network(golden).decoder)


def test_the_state_dict_has_the_published_keys_and_shapes(published_keys, layout_of) -> None:
    with torch.device("meta"):
        model = Triposr(TriposrConfig())
    assert layout_of(model) == published_keys("triposr")


TOLERANCES = {
    "rgb_cond": 1e-6,
    "vit_embeddings": 2e-5,
    "image_tokens": 2e-5,
    "backbone_out": 5e-5,
    "scene_codes": 5e-5,
    **{f"query_{name}": 1e-5 for name in ("density", "density_act", "features", "color")},
}
"""Of the small network. Its smallest wrong detail, the ViT's epsilon, changes tokens by 3.6e-4 and planes by 1.4e-4."""
BIG = {"backbone_out": 1e-3, "scene_codes": 1e-3, "image_tokens": 5e-5, "query_density": 1e-4, "query_features": 1e-4}
"""Where values of the published architecture need more room: its planes have a deviation of 13."""


@golden_fixtures("triposr_", "scene_codes", "backbone_out", "query_points")
@torch.no_grad()
def test_the_small_network_gives_the_references_numbers(golden: Golden) -> None:
    for name, values in stages(golden_network(golden), golden).items():
        tolerance = golden.tolerance(name, TOLERANCES[name])
        expected = golden.arrays[name].reshape(values.shape)
        np.testing.assert_allclose(values, expected, atol=tolerance, rtol=0, err_msg=name)


@golden_fixtures("triposr_", "scene_codes_values", long=True)  # the published architecture: 1.7 GB of weights
@torch.no_grad()
def test_the_published_architecture_gives_the_references_numbers(golden: Golden) -> None:
    found = stages(golden_network(golden), golden)
    for name, values in found.items():
        tolerance = {**TOLERANCES, **BIG}[name]
        if name in golden.arrays:
            np.testing.assert_allclose(values, golden.arrays[name], atol=tolerance, rtol=0, err_msg=name)
        else:
            sampled = values.numpy().ravel()[golden.arrays[f"{name}_index"]]
            np.testing.assert_allclose(sampled, golden.arrays[f"{name}_values"], atol=tolerance, rtol=0, err_msg=name)


@golden_fixtures("triposr_", "render", "scene_codes")
@torch.no_grad()
def test_marched_rays_give_the_references_pictures(golden: Golden) -> None:
    rays = (golden.arrays[name].reshape(-1, 3) for name in ("render_rays_o", "render_rays_d"))
    rgb = rendered(golden, golden_field(golden), *map(torch.from_numpy, rays))
    np.testing.assert_allclose(rgb, golden.arrays["render"].reshape(-1, 3), atol=golden.tolerance("render", 1e-5))


@golden_fixtures("triposr_", "rays_rgb")
@torch.no_grad()
def test_rays_that_miss_graze_or_start_inside_are_the_references(golden: Golden) -> None:
    field = golden_field(golden)
    origins, directions = (torch.from_numpy(golden.arrays[name]) for name in ("rays_o", "rays_d"))
    low, high = field.rendered_bounds
    near, far, hits = in_box(origins, directions, low, high, field.shortest_path)
    np.testing.assert_array_equal(hits, golden.arrays["rays_valid"])
    np.testing.assert_allclose(near, golden.arrays["t_near"], atol=golden.tolerance("t_near", 1e-5))
    reference = np.where(golden.arrays["rays_valid"][:, None], golden.arrays["t_far"], 0)
    np.testing.assert_allclose(far, reference, atol=golden.tolerance("t_far", 1e-5))
    rgb = rendered(golden, field, origins, directions)
    np.testing.assert_allclose(rgb[hits], golden.arrays["rays_rgb"], atol=golden.tolerance("rays_rgb", 1e-5))
    assert (rgb[~hits] == 1).all()


def rendered(golden: Golden, field: TriplaneField, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Rays on white."""
    samples = golden.sidecar["config"]["renderer"]["num_samples_per_ray"]
    low, high = field.rendered_bounds
    marched = march(field, origins, directions, low, high, samples, field.path_length, field.shortest_path)
    return marched.rgb + 1 - marched.accumulation


def cut_outs(golden: Golden) -> list[tuple[str, RGBA]]:
    """The names of a fixture's cut-out pictures, and these."""
    names = [name.removesuffix("_rgba") for name in golden.arrays if name.endswith("_rgba")]
    return [(name, golden.arrays[f"{name}_rgba"]) for name in names]


@golden_fixtures("triposr_", "tall_rgba")
def test_images_are_prepared_as_the_references_to_the_bit(golden: Golden) -> None:
    for name, pixels in cut_outs(golden):
        made = [key for key in golden.arrays if re.fullmatch(f"{name}_\\d+_padded", key)]
        assert made
        for key in made:
            share = int(key.split("_")[-2]) / 100
            square = framed(pixels, Path(name), share)
            np.testing.assert_array_equal(square, golden.arrays[key])
            grey = on_grey(torch.from_numpy(square).permute(2, 0, 1).float() / 255)
            composite = golden.arrays[key.replace("padded", "composite")]
            np.testing.assert_array_equal((255 * grey).round().byte().permute(1, 2, 0), composite)


@golden_fixtures("triposr_", "tall_rgba")
def test_images_are_resampled_as_the_references(golden: Golden) -> None:
    inputs = {key: golden.picture("picture_large") for key in golden.arrays if re.fullmatch(r"large_\d+", key)}
    assert inputs
    for key in golden.arrays:
        if key.endswith("_input"):
            inputs[key] = golden.arrays[key.replace("input", "composite")]
    for key, picture in inputs.items():
        expected = golden.arrays[key]
        image = torch.from_numpy(picture).permute(2, 0, 1).float()[None] / 255
        image = interpolate(image, size=expected.shape[:2], mode="bilinear", align_corners=False, antialias=True)
        np.testing.assert_allclose(image[0].permute(1, 2, 0), expected, atol=golden.tolerance(key, 1e-6))


@golden_fixtures("triposr_", "mesh_vertices")
@torch.no_grad()
def test_the_surface_has_the_references_vertices_and_colours(golden: Golden) -> None:
    field, rule = golden_field(golden), golden.sidecar["mesh"]
    length = field.path_length
    assert length is not None
    low, high = field.bounds
    grid = lattice(low, high, rule["resolution"])
    density = field.query(grid)[0].view((rule["resolution"],) * 3) * length
    np.testing.assert_allclose(density, golden.arrays["grid_density"], atol=golden.tolerance("grid_density", 1e-5))
    mesh = surface_of(field, rule["resolution"], rule["threshold"] / length)
    assert len(mesh.vertices) == len(golden.arrays["mesh_vertices"])
    distance, nearest = KDTree(mesh.vertices).query(golden.arrays["mesh_vertices"])
    nearest = np.asarray(nearest)
    assert distance.max() < golden.tolerance("mesh_vertices", 2e-5)
    assert np.unique(nearest).size == nearest.size
    colors = mesh.colors[nearest]
    np.testing.assert_allclose(colors, golden.arrays["mesh_colours"], atol=golden.tolerance("mesh_colours", 1e-5))


def test_a_picture_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="shows nothing"):
        framed(np.zeros((40, 40, 4), np.uint8), Path("empty.png"))
    speck = np.zeros((40, 40, 4), np.uint8)
    speck[3:9, 3:9] = 255
    with pytest.raises(InputError, match="only 5 pixels"):
        framed(speck, Path("speck.png"))


SMALL = TriposrConfig(
    image_size=32,
    vit=VitConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32),
    plane_size=4,
    channels=32,
    num_layers=1,
    num_heads=2,
    head_size=16,
    plane_channels=4,
    mlp_channels=8,
    mlp_layers=2,
)


@pytest.fixture
def small_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small network with random weights in the place of the published one."""
    known = checkpoint("triposr")
    small = dataclasses.replace(known, architecture=dataclasses.asdict(SMALL))
    monkeypatch.setattr(generator, "checkpoint", lambda name: small)
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weight_files, "_has_size", lambda path, file: path.is_file())  # the published one is large
    path = tmp_path / "triposr" / known.files[0].path
    path.parent.mkdir()
    torch.manual_seed(0)
    torch.save(Triposr(SMALL).state_dict(), path)
    return path


@pytest.mark.parametrize(("options", "precision"), [({}, "float32"), ({"precision": "fast"}, "fast")])
def test_generate_gives_a_field_that_faces_the_viewer(
    small_weights: Path, tmp_path: Path, options: dict[str, Any], precision: Precision
) -> None:
    square = np.zeros((40, 40, 4), np.uint8)
    square[5:35, 10:30] = (200, 60, 30, 255)
    Image.fromarray(square).save(tmp_path / "square.png")
    field = generate("triposr", tmp_path / "square.png", **options)
    assert isinstance(field, TriplaneField) and field.up == "y"
    image = on_grey(torch.from_numpy(framed(square, Path())).permute(2, 0, 1).float() / 255)
    own = load_triposr(small_weights, SMALL).generate(image, dtype_of(precision, default_device()))
    points = torch.tensor([[0.1, 0.2, 0.3]])  # x towards the viewer, y right, z up
    for ours, theirs in zip(field.query(points[:, [1, 2, 0]]), own.query(points), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_weights_one_line_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match=r"img3d-weights fetch triposr \(1.68 GB, MIT\)"):
        generate("triposr", tmp_path / "photo.png")


def test_weights_are_loaded_strictly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = Triposr(SMALL).state_dict()
    torch.save(weights, tmp_path / "model.ckpt")
    image = torch.rand(3, 40, 40)
    first, second = (load_triposr(tmp_path / "model.ckpt", SMALL).generate(image) for _ in range(2))
    assert torch.equal(first.planes, second.planes)
    weights.pop("decoder.layers.0.bias")
    torch.save(weights, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="does not fit Triposr, .*decoder.layers.0.bias is missing"):
        load_triposr(tmp_path / "other.ckpt", SMALL)


def test_half_precision_is_close_to_float32() -> None:
    torch.manual_seed(0)
    model, image = Triposr(SMALL), torch.rand(3, 40, 40)
    exact, half = (model.generate(image, dtype).planes for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    assert 0 < (exact - half).abs().max() < 0.05 * exact.abs().max()
