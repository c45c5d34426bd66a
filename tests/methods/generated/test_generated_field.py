# SPDX-License-Identifier: Apache-2.0
"""A generator that gives a field is a method whose run holds that field: axes, scale, views, cache, refinement."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from object_image import write_object_image
from triplanes import ball_field

from img3d_assets.fields.triplane import TriplaneField
from img3d_assets.mesh_files import read_mesh
from img3d_generators.registry import Generator, InputView, rows
from img3d_methods.generated.field_trainer import Img3dGeneratedFieldTrainer
from img3d_methods.generated.methods import method_of
from img3d_methods.representation import representation_of

CALLS: list[Any] = []
DISTANCE = 2.0


def load(name: str) -> Callable[..., TriplaneField]:
    """A generator of a ball around (0, 0, 0); it is red on the side of +z, which faces the viewer."""

    def make(source: Any, seed: int = 0) -> TriplaneField:
        CALLS.append(source)
        # x of the ball's own world, along which it grows red, becomes z
        return ball_field(0.4, size=24).turned(torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), up="y")

    return make


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The configuration of the method of a toy generator, as ns-train gets it."""
    CALLS.clear()
    toy = Generator("toy", "image", "Field", "a toy", load=f"{__name__}:load", input=InputView(0.2, 40.0, DISTANCE))
    monkeypatch.setitem(rows(), "toy", toy)
    method = method_of("toy")
    assert method is not None and method.config.method_name == "img3d-toy"
    config: Any = copy.deepcopy(method.config)
    config.vis = "tensorboard"
    parser = config.pipeline.datamanager.dataparser
    parser.cache_dir, parser.num_views, parser.view_size = tmp_path / "cache", 5, 32
    config.pipeline.model.occupancy_resolution = 20
    config.pipeline.datamanager.data = write_object_image(tmp_path / "a.png")
    return config


def pipeline_of(config: Any) -> Any:
    config.print_to_terminal()
    return config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)


def test_its_run_holds_the_field_with_z_up_and_cameras_at_distance_1(config: Any) -> None:
    pipeline = pipeline_of(config)
    held = representation_of(pipeline.model).asset()
    assert isinstance(held, TriplaneField) and held.up == "z"
    np.testing.assert_allclose(held.bounds.detach(), [[-1 / DISTANCE] * 3, [1 / DISTANCE] * 3], rtol=1e-5)
    _, rgb = held.query(torch.tensor([[0.3 / DISTANCE, 0, 0], [-0.3 / DISTANCE, 0, 0]]))
    assert rgb[0, 0] > 0.8 and rgb[1, 0] < 0.2, "+x of the run faces the viewer"
    cameras = pipeline.datamanager.train_dataset.cameras
    np.testing.assert_allclose(cameras.camera_to_worlds[0, :, 3], [1, 0, 0], atol=1e-6)
    rendered = pipeline.model.eval().get_outputs_for_camera(cameras[1:2])
    given = pipeline.datamanager.train_dataset[1]["image"]
    torch.testing.assert_close(rendered["rgb"], given, atol=0.02, rtol=0)
    assert len(cameras) == 5


def test_ns_render_moves_around_it_in_a_spiral(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfstudio.scripts import render

    for name in ("VanillaDataManager", "get_spiral_path"):
        monkeypatch.setattr(render, name, getattr(render, name))  # what is put in their place ends with the test
    monkeypatch.setattr(sys, "argv", ["ns-render", "spiral"])
    pipeline = pipeline_of(config)
    assert isinstance(pipeline.datamanager, render.VanillaDataManager), "ns-render would refuse the run"
    camera, _ = pipeline.datamanager.eval_dataloader.get_camera(0)
    path = render.get_spiral_path(camera, steps=4, radius=0.1)
    assert len(path) == 4
    assert pipeline.model.eval().get_outputs_for_camera(path[1:2])["accumulation"].max() > 0.5


def test_ns_export_fuses_depth_to_its_surface_and_nothing_else(config: Any, tmp_path: Path) -> None:
    from nerfstudio.exporter.tsdf_utils import export_tsdf_mesh

    config.pipeline.datamanager.dataparser.num_views = 17
    export_tsdf_mesh(pipeline_of(config), tmp_path, downscale_factor=1, resolution=64, use_bounding_box=False)
    vertices = read_mesh(tmp_path / "tsdf_mesh.ply")[0].vertices
    distance = np.linalg.norm(vertices, axis=1) * DISTANCE
    assert np.median(distance) == pytest.approx(0.4, abs=0.02)
    assert distance.max() < 0.6, "no walls around what no ray hits"


def test_the_field_and_its_views_are_made_once(config: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline_of(config)
    pipeline_of(config)
    assert len(CALLS) == 1
    (file,) = config.pipeline.datamanager.dataparser.cache_dir.glob("field-toy-*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    pipeline_of(config)
    assert len(CALLS) == 2 and "is damaged" in capsys.readouterr().out


def test_a_field_that_is_no_triplane_is_refused_in_one_line(
    config: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("img3d_methods.generated.generated_asset.generate", lambda *args: object())
    with pytest.raises(SystemExit):
        pipeline_of(config)
    assert "made object instead of a triplane" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("steps", [0, 3])
def test_the_trainer_refines_only_if_asked(config: Any, tmp_path: Path, steps: int) -> None:
    config.max_num_iterations, config.output_dir = steps, tmp_path / "outputs"
    config.pipeline.datamanager.train_num_rays_per_batch = 64
    config.set_experiment_name()
    config.timestamp = "now"
    config.print_to_terminal()
    trainer: Any = config.setup()
    assert isinstance(trainer, Img3dGeneratedFieldTrainer)
    trainer.setup()
    model: Any = trainer.pipeline.model
    before = model.held().rows.detach().clone()
    trainer.train()
    after = model.held().rows.detach()
    assert torch.equal(before, after) == (steps == 0)
    assert list(trainer.checkpoint_dir.glob("*.ckpt"))


def test_the_page_shows_its_surface(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from img3d_exporters import load_run
    from img3d_exporters.commands.viewer import _scene_of_run

    pipeline = pipeline_of(config)
    cameras = pipeline.datamanager.train_dataset.cameras
    held = representation_of(pipeline.model)
    run = SimpleNamespace(name="a", model=pipeline.model, cameras=cameras, representation=held)
    monkeypatch.setattr(load_run, "load_run", lambda path: run)
    scene = _scene_of_run(tmp_path / "config.yml", None)
    distance = np.linalg.norm(scene.splats.means, axis=1) * DISTANCE
    np.testing.assert_allclose(distance, 0.4, atol=0.02)
    (tmp_path / "shown.glb").write_bytes(scene.mesh or b"")
    vertices = read_mesh(tmp_path / "shown.glb")[0].vertices
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1) * DISTANCE, 0.4, atol=0.02)
