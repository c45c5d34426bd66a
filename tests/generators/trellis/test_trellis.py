# SPDX-License-Identifier: Apache-2.0
"""TRELLIS as a generator: from an image or several to Gaussians and a mesh, stopped and resumed, in small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from object_image import write_object_image
from PIL import Image
from small_trellis import small_network, write_small

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.inputs import prepared_input
from img3d_generators.pairing import about, choose
from img3d_generators.registry import row
from img3d_generators.rendered_views import rendered_views
from img3d_generators.trellis import cost, generator, texture
from img3d_generators.trellis.files import PARTS
from img3d_generators.trellis.generator import installed
from img3d_generators.trellis.latent_flow import LatentFlowConfig
from img3d_generators.trellis.samplers import Sampler
from img3d_generators.trellis.stages import Options
from img3d_generators.trellis.structure import FlowConfig
from img3d_kernels.spherical_harmonics import rgb_to_sh

STEPS = 3 + 2


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small weights."""
    torch.set_num_threads(1)
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "weights"))
    return write_small(tmp_path / "weights", monkeypatch)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that are computed."""
    computed: list[int] = []
    step = Sampler.step

    def noted(self: Sampler, state: torch.Tensor, index: int) -> torch.Tensor:
        computed.append(index)
        return step(self, state, index)

    monkeypatch.setattr(Sampler, "step", noted)
    return computed


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_object_image(tmp_path / "a.png")


def same(first: Gaussians, second: Gaussians) -> bool:
    return first.means.shape == second.means.shape and np.array_equal(first.means, second.means)


def test_an_image_becomes_gaussians_and_the_same_seed_the_same_ones(image: Path, steps: list[int]) -> None:
    made = generate("trellis", image)
    assert isinstance(made, Gaussians) and made.up == "y" and made.antialiased and len(made) > 50
    assert np.abs(made.means).max() < 0.5 + 0.75 / 8
    assert steps == [0, 1, 2, 0, 1]
    again, other, fewer = (
        generate("trellis", image),
        generate("trellis", image, seed=1),
        generate("trellis", image, steps=1),
    )
    assert isinstance(again, Gaussians) and isinstance(other, Gaussians) and isinstance(fewer, Gaussians)
    assert same(made, again) and not same(made, other) and not same(made, fewer)
    np.testing.assert_array_equal(made.sh_dc, again.sh_dc)


def test_an_image_becomes_a_mesh_that_other_programs_open(image: Path, tmp_path: Path) -> None:
    mesh = generate("trellis-mesh", image)
    assert isinstance(mesh, Mesh) and mesh.up == "y" and len(mesh.faces) > 50
    assert np.abs(mesh.vertices).max() <= 0.5 + 1 / 32 and 0 <= mesh.colors.min() <= mesh.colors.max() <= 1
    mesh.save(tmp_path / "a.glb")
    opened = trimesh.load(tmp_path / "a.glb", force="mesh")
    assert len(opened.faces) == len(mesh.faces)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_mesh_has_a_texture_of_the_gaussians_colours(image: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(texture, "NUM_VIEWS", 12)
    gaussians = generate("trellis", image, keep_in=tmp_path / "kept")
    assert isinstance(gaussians, Gaussians)
    gaussians.sh_dc[:] = rgb_to_sh(torch.tensor([0.9, 0.5, 0.1])).numpy()
    gaussians.opacities[:] = 8.0
    gaussians.log_scales[:] = np.log(0.1)
    monkeypatch.setattr(generator, "gaussians_of", lambda *_: gaussians)
    mesh = generate("trellis-mesh", image, keep_in=tmp_path / "kept", texture_size=128)
    assert isinstance(mesh, Mesh) and mesh.texture is not None and mesh.uvs is not None and mesh.up == "y"
    assert mesh.texture.shape == (128, 128, 3) and 20 < len(mesh.faces) <= 128**2 // texture.TEXELS_OF_FACE
    painted = mesh.texture.reshape(-1, 3)
    assert (np.abs(painted - np.array([230, 128, 26])).max(axis=1) < 4).mean() > 0.5
    with pytest.raises(InputError, match="texture of 7 pixels"):
        generate("trellis-mesh", image, texture_size=7)


def test_the_networks_axes_are_turned_to_ours(image: Path) -> None:
    trellis = installed("trellis")
    grid, latents = trellis.latents(prepared_input(row("trellis"), image)[None], Options())
    gaussians, mesh = trellis.gaussians(grid, latents), trellis.mesh(grid, latents)
    # z up and -y to the viewer become y up and z to the viewer
    x, y, z = gaussians.means.numpy().T
    np.testing.assert_allclose(generate("trellis", image).means, np.stack([x, z, -y], axis=1), atol=1e-6)  # pyright: ignore
    x, y, z = mesh.vertices.T
    np.testing.assert_allclose(generate("trellis-mesh", image).vertices, np.stack([x, z, -y], axis=1), atol=1e-6)  # pyright: ignore


@pytest.mark.parametrize("stopped_after", range(1, STEPS))
def test_what_was_stopped_goes_on_after_its_last_step(
    stopped_after: int, image: Path, tmp_path: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    whole = generate("trellis", image)
    expected = list(steps)
    steps.clear()
    step = Sampler.step

    def stopping(self: Sampler, state: torch.Tensor, index: int) -> torch.Tensor:
        if len(steps) == stopped_after:
            raise KeyboardInterrupt
        return step(self, state, index)

    with monkeypatch.context() as patched:
        patched.setattr(Sampler, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            generate("trellis", image, keep_in=tmp_path / "kept")
    assert steps == expected[:stopped_after]
    steps.clear()
    capsys.readouterr()
    resumed = generate("trellis", image, keep_in=tmp_path / "kept")
    assert steps == expected[stopped_after:]
    assert f"goes on after {stopped_after} of {STEPS} steps" in capsys.readouterr().out
    assert isinstance(whole, Gaussians) and isinstance(resumed, Gaussians) and same(whole, resumed)


def test_a_mesh_of_the_same_image_takes_no_further_steps(image: Path, tmp_path: Path, steps: list[int], capsys) -> None:
    generate("trellis", image, keep_in=tmp_path / "kept")
    said = capsys.readouterr().out
    assert "for the structure, then about" in said and "when it is stopped" in said
    steps.clear()
    mesh = generate("trellis-mesh", image, keep_in=tmp_path / "kept")
    assert steps == [] and isinstance(mesh, Mesh)
    others: list[dict[str, Any]] = [{"seed": 1}, {"steps": 2}, {"precision": "fast"}]
    for options in others:
        generate("trellis-mesh", image, keep_in=tmp_path / "kept", **options)
        assert steps != []
        steps.clear()


def test_a_damaged_file_is_made_anew(image: Path, tmp_path: Path, steps: list[int], capsys) -> None:
    made = generate("trellis", image, keep_in=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    steps.clear()
    again = generate("trellis", image, keep_in=tmp_path / "kept")
    assert len(steps) == STEPS and "is damaged" in capsys.readouterr().out
    assert isinstance(made, Gaussians) and isinstance(again, Gaussians) and same(made, again)


def test_several_images_of_one_object(image: Path, tmp_path: Path) -> None:
    pixels = np.array(Image.open(image))
    Image.fromarray(pixels[:, ::-1].copy()).save(tmp_path / "b.png")
    images = [image, tmp_path / "b.png"]
    one, in_turn = generate("trellis", image), generate("trellis", images)
    mean = generate("trellis", images, multi_image="multidiffusion")
    assert isinstance(one, Gaussians) and isinstance(in_turn, Gaussians) and isinstance(mean, Gaussians)
    assert not same(one, in_turn) and not same(in_turn, mean)
    twice = generate("trellis", [image, image])
    assert isinstance(twice, Gaussians) and same(one, twice)
    with pytest.raises(InputError, match="img3d-small takes one image, not 2 images"):
        generate("img3d-small", images)


def test_fast_products_change_little(image: Path) -> None:
    exact, fast = generate("trellis", image, steps=1), generate("trellis", image, steps=1, precision="fast")
    assert isinstance(exact, Gaussians) and isinstance(fast, Gaussians)
    assert abs(len(exact) - len(fast)) < 0.2 * len(exact)


def test_nothing_in_the_image_is_one_line(image: Path, weights: Path) -> None:
    from safetensors.torch import save_file

    decoder = small_network("structure_decoder")
    decoder.out_layer[2].bias.data -= 1000  # pyright: ignore
    save_file(decoder.state_dict(), weights / PARTS["structure_decoder"].file)
    with pytest.raises(InputError, match="finds no object"):
        generate("trellis", image)


def test_its_views_are_all_renders(image: Path) -> None:
    views, first = rendered_views("trellis", image, size=32)
    assert len(views) == 7 and views.alphas is not None and first.shape == (4, 32, 32)


def test_without_weights_one_line_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "none"))
    for name in ("trellis", "trellis-mesh"):
        with pytest.raises(
            InputError, match=r"fetch trellis-image-large \(2.84 GB, MIT\), and .*dinov2-large-reg"
        ) as said:
            generate(name, "photo.png")
        assert "\n" not in str(said.value)


def test_it_is_used_where_it_is_named_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("img3d_generators.pairing.available", lambda name: Path())
    assert choose("object", gives="Gaussians").generator.name == "lgm"
    assert choose("auto").generator.name == "lgm"
    assert choose("trellis").network == "trellis" and "Better" not in about(choose("trellis"))


def test_operations_are_those_of_the_published_sizes() -> None:
    structure = cost.structure_operations(FlowConfig(), 1374)
    assert structure == pytest.approx(5.2e12, rel=0.04)
    for voxels, expected in ((8_000, 2.5e12 + 0.12e12), (20_000, 7.2e12 + 0.3e12), (32_000, 14.4e12 + 0.48e12)):
        assert cost.detail_operations(LatentFlowConfig(), voxels, 1374) == pytest.approx(expected, rel=0.25)
    assert cost.operations_per_second(torch.device("cpu"), torch.float32) > 1e8
