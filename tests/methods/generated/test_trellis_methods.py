# SPDX-License-Identifier: Apache-2.0
"""`ns-train img3d-trellis` and `img3d-trellis-mesh`: runs of Gaussians and of a mesh, made of the same latents."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.scripts.train import main
from object_image import write_object_image
from small_trellis import write_small

from img3d_assets.gaussians import Gaussians
from img3d_assets.mesh import Mesh
from img3d_assets.mesh_files import read_mesh
from img3d_base.errors import InputError
from img3d_generators import generate
from img3d_generators.trellis import texture
from img3d_methods.generated.gaussians_dataparser import read_gaussians
from img3d_methods.generated.trainer import Img3dGeneratedMeshTrainerConfig, Img3dGeneratedTrainer
from img3d_methods.representation import representation_of


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, and small weights."""
    torch.set_num_threads(1)
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "weights"))
    write_small(tmp_path / "weights", monkeypatch)
    (tmp_path / "images").mkdir()
    return write_object_image(tmp_path / "images" / "a.png")


def run_of(method: str, data: Path) -> Any:
    """The configuration of a run, as ns-train gets it."""
    config: Any = copy.deepcopy(all_methods[method])
    config.vis, config.pipeline.datamanager.data = "tensorboard", data
    parser = config.pipeline.datamanager.dataparser
    parser.num_views, parser.view_size = 3, 32
    return config


def asset_of(config: Any) -> Any:
    """What a run holds before its first step."""
    config.timestamp = "again"  # a trained run is not replaced
    config.print_to_terminal()
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    if isinstance(config._target, type) and issubclass(config._target, Img3dGeneratedTrainer):
        pipeline.generate()
    return representation_of(pipeline.model).asset()


def psnr_of(config: Any) -> float:
    """How well a run's model renders its first view, in dB."""
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    pipeline.generate()
    dataset = pipeline.datamanager.eval_dataset
    rendered = pipeline.model.eval().get_outputs_for_camera(dataset.cameras[:1])["rgb"]
    seen = dataset.get_image_float32(0)[..., :3]
    return float(-10 * torch.log10((rendered - seen).square().mean()))


def test_a_run_holds_the_gaussians_of_the_network(image: Path, capsys: pytest.CaptureFixture) -> None:
    config = run_of("img3d-trellis", image)
    held, made = asset_of(config), generate("trellis", image)
    assert isinstance(held, Gaussians) and isinstance(made, Gaussians) and held.antialiased
    assert config.max_num_iterations == 0 and config.pipeline.network == "trellis"
    x, y, z = made.means.T
    np.testing.assert_allclose(held.means, np.stack([z, x, y], axis=1) / 2, atol=1e-5)  # cameras at distance 1, not 2
    np.testing.assert_allclose(held.log_scales, made.log_scales - np.log(2), atol=1e-4)
    (file,) = (image.parent / ".img3d").glob("gaussians-trellis-*.npz")
    kept = read_gaussians(file)
    assert kept.up == "y" and kept.antialiased and np.array_equal(kept.means, made.means)
    assert psnr_of(config) > 40  # 50; 16 if the views are rendered without the filter that the model renders with
    capsys.readouterr()
    again = asset_of(run_of("img3d-trellis", image))
    assert "Gaussians from the cache" in capsys.readouterr().out
    np.testing.assert_array_equal(again.means, held.means)


def test_a_mesh_of_the_same_image_takes_its_latents_from_the_cache(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset_of(run_of("img3d-trellis", image))
    monkeypatch.setattr("img3d_generators.trellis.stages.Sampler", None)
    mesh = asset_of(run_of("img3d-trellis-mesh", image))
    assert isinstance(mesh, Mesh) and len(mesh.faces) > 50


def test_all_images_of_a_folder(image: Path) -> None:
    write_object_image(image.with_name("b.png"))
    config = run_of("img3d-trellis", image.parent)
    config.pipeline.datamanager.dataparser.index, config.pipeline.steps = -1, 1
    config.pipeline.multi_image = "multidiffusion"
    assert isinstance(asset_of(config), Gaussians)
    assert config.pipeline.datamanager.dataparser.options == {"steps": 1, "multi_image": "multidiffusion"}
    config = run_of("img3d-instantmesh", image.parent)
    config.pipeline.datamanager.dataparser.index = -1
    config.pipeline.datamanager.dataparser.generator = "instantmesh"
    with pytest.raises(InputError, match="--index -1 is for generators that take several .*: trellis, trellis-mesh"):
        config.pipeline.datamanager.dataparser.data = image.parent
        config.pipeline.datamanager.dataparser.setup().get_dataparser_outputs()


def test_options_of_others_are_refused(image: Path) -> None:
    config = run_of("img3d-trellis", image)
    config.pipeline.num_steps = 30
    with pytest.raises(InputError, match="trellis has no option num_steps; it has steps, multi_image, precision"):
        config.pipeline.choose()
    config = run_of("img3d-trellis", image)
    config.pipeline.texture_size = 64
    with pytest.raises(InputError, match="is for a mesh: add --pipeline.output mesh"):
        config.pipeline.choose()
    config.pipeline.output, config.pipeline.texture_size = "both", 7
    with pytest.raises(InputError, match="texture of 7 pixels"):
        config.pipeline.choose()


def trained(config: Any, folder: Path) -> Path:
    """What ns-train does with a configuration; returns the folder of the run."""
    config.output_dir, config.machine.device_type = folder, "cpu"
    main(config)
    return config.get_base_dir()


def test_a_mesh_is_the_run_of_the_generator_of_meshes(image: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(texture, "NUM_VIEWS", 4)
    config = run_of("img3d-trellis", image)
    config.pipeline.output, config.pipeline.texture_size = "mesh", 64
    config.pipeline.steps, config.pipeline.datamanager.dataparser.seed = 1, 2
    run = trained(config, tmp_path / "runs")
    assert run.parent.name == "img3d-trellis-mesh" and run.parent.parent.name == "a"
    written: Any = yaml.load((run / "config.yml").read_text("utf8"), Loader=yaml.Loader)
    assert type(written) is Img3dGeneratedMeshTrainerConfig
    pipeline: Any = written.pipeline
    assert pipeline.generator == "trellis-mesh"
    parser = pipeline.datamanager.dataparser
    assert parser.options == {"steps": 1, "texture_size": 64} and parser.seed == 2 and parser.num_views == 3
    mesh = asset_of(written)
    assert isinstance(mesh, Mesh) and mesh.texture is not None and mesh.texture.shape == (64, 64, 3)
    config = run_of("img3d-trellis", image)
    config.pipeline.output, config.max_num_iterations = "mesh", 5
    with pytest.raises(SystemExit):
        config.print_to_terminal()


def test_both_are_a_run_of_gaussians_and_a_file_of_the_mesh(image: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(texture, "NUM_VIEWS", 4)
    config = run_of("img3d-trellis", image)
    config.pipeline.output, config.pipeline.texture_size, config.pipeline.steps = "both", 64, 1
    run = trained(config, tmp_path / "runs")
    assert run.parent.name == "img3d-trellis"
    mesh, up = read_mesh(run / "mesh.glb")
    assert up == "y" and len(mesh.faces) > 20 and mesh.texture is not None and mesh.texture.shape == (64, 64, 3)
    assert np.abs(mesh.vertices).max() < 0.6
    written: Any = yaml.load((run / "config.yml").read_text("utf8"), Loader=yaml.Loader)
    monkeypatch.setattr("img3d_generators.trellis.stages.Sampler", None)
    assert isinstance(asset_of(written), Gaussians)
    other = run_of("img3d-trellis-mesh", image)
    other.pipeline.texture_size, other.pipeline.steps = 64, 1
    assert len(asset_of(other).faces) == len(mesh.faces)
