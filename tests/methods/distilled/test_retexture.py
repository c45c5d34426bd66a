# SPDX-License-Identifier: Apache-2.0
"""Meshes whose texture a guidance refines: the texture becomes what the guidance knows, and the surface stays."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from command_lines import CommandLine
from guidance_repositories import write_text_to_image, write_zero123
from nerfstudio.configs.method_configs import all_methods
from object_image import write_object_image
from shaped_runs import SIZE, psnr_of_mesh, trained, write_known_mesh

from img3d_assets.mesh_files import read_mesh
from img3d_assets.meshing.uv_atlas import texels_of, with_gutters
from img3d_exporters.load_run import load_run
from img3d_generators.cameras import orbit_camera_to_worlds
from img3d_generators.guidance.random_views import directions
from img3d_generators.guidance.rows import guidance_row
from img3d_generators.image_preparation import prepared_image
from img3d_kernels.poses import intrinsics
from img3d_methods.distilled.retexture_pipeline import camera_distance


def config_for_mesh(mesh: Path, steps: int) -> Any:
    """The configuration of a short run, as ns-train gets it."""
    config: Any = copy.deepcopy(all_methods["img3d-retexture"])
    config.output_dir, config.experiment_name, config.timestamp = mesh.parent / "outputs", "object", "now"
    config.vis, config.max_num_iterations = "tensorboard", steps
    config.viewer.quit_on_train_completion = True
    config.pipeline.datamanager.data = mesh
    config.pipeline.datamanager.dataparser.num_views, config.pipeline.datamanager.dataparser.view_size = 2, 32
    config.pipeline.picture_every, config.pipeline.render_size, config.pipeline.texture_size = 2, SIZE, 64
    return config


@pytest.mark.long
def test_a_blurred_texture_becomes_that_of_the_known_mesh(tmp_path: Path, data_dir: Path) -> None:
    spot = data_dir / "meshes" / "spot" / "spot.obj"
    blurred, up = read_mesh(spot)
    assert blurred.texture is not None
    blurred.texture, blurred.up = cv2.GaussianBlur(blurred.texture, (0, 0), 60), up
    blurred.save(tmp_path / "blurred.glb")
    cli = CommandLine(tmp_path)
    cli.env["OMP_NUM_THREADS"] = "1"  # beside other tests torch's threads would wait for each other
    cli.succeed(
        *("ns-train", "img3d-retexture", "--data", "blurred.glb", "--pipeline.guidance", "known-object"),
        *("--pipeline.mesh", spot, "--pipeline.render-size", 64, "--max-num-iterations", 30, "--timestamp", "now"),
        *("--pipeline.picture-every", 0, "--vis", "tensorboard", "img3d-mesh", "--num-views", 2, "--view-size", 64),
    )
    run = tmp_path / "outputs" / "blurred" / "img3d-retexture" / "now"
    cli.succeed("img3d-export", "mesh", "--load-config", run / "config.yml", "--output", "refined.glb")
    before, after = (psnr_of_mesh(tmp_path / name, spot) for name in ("blurred.glb", "refined.glb"))
    assert min(now - then for now, then in zip(after, before, strict=True)) >= 3


class TestNetworks:
    def test_zero123_is_told_an_image(self, tmp_path: Path) -> None:
        mesh = write_known_mesh(tmp_path / "box.ply")
        config = config_for_mesh(mesh, 3)
        config.pipeline.guidance, config.pipeline.weights = "zero123", write_zero123(tmp_path / "weights")
        config.pipeline.image = write_object_image(tmp_path / "cup.png")
        trainer = trained(config)
        assert {file.name for file in (trainer.base_dir / "pictures").iterdir()} == {
            "step-000000.png",
            "step-000002.png",
        }
        before = trainer.pipeline.datamanager.train_dataset.metadata["mesh"]
        after = load_run(trainer.base_dir / "config.yml").representation.asset()
        assert after.texture is not None and after.texture.shape == (64, 64, 3)  # pyright: ignore
        assert np.array_equal(after.vertices[after.faces], before.vertices[before.faces])  # pyright: ignore
        assert np.array_equal(after.texture, trainer.pipeline.model.asset().texture)  # pyright: ignore

    def test_a_text(self, tmp_path: Path) -> None:
        config = config_for_mesh(write_known_mesh(tmp_path / "box.ply"), 2)
        config.pipeline.prompt, config.pipeline.weights = "a box", write_text_to_image(tmp_path / "weights")
        model = trained(config).pipeline.model
        fresh = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0).model
        assert float((model.texels - fresh.texels).detach().abs().mean()) > 0.01
        assert config.pipeline.guidance == "stable-diffusion-2.1"


def test_steps_change_only_texels_that_the_views_show(tmp_path: Path) -> None:
    mesh = write_known_mesh(tmp_path / "box.ply")
    config = config_for_mesh(mesh, 1)
    config.pipeline.guidance, config.pipeline.mesh = "known-object", mesh
    model = trained(config).pipeline.model
    config.pipeline.picture_every = 0
    fresh = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0).model
    changed = (model.texels - fresh.texels).abs().sum(dim=-1) > 0
    assert 0.05 < float(changed.float().mean()) < 0.8


def test_the_side_that_an_image_shows_takes_its_colours(tmp_path: Path) -> None:
    image = write_object_image(tmp_path / "cup.png")
    config = config_for_mesh(write_known_mesh(tmp_path / "box.ply"), 6)
    config.pipeline.guidance, config.pipeline.weights = "zero123", write_zero123(tmp_path / "weights")
    config.pipeline.image, config.pipeline.elevation, config.pipeline.picture_every = image, 15.0, 0

    def difference(given_weight: float) -> float:
        config.pipeline.given_weight, config.timestamp = given_weight, f"weight-{given_weight:g}"
        pipeline = trained(config).pipeline
        camera = pipeline.cameras(torch.zeros(1), torch.tensor([15.0]), SIZE)
        rgb, alpha = pipeline.model.differentiable_picture(
            camera.camera_to_worlds[0], camera.get_intrinsics_matrices()[0], SIZE
        )
        wanted = prepared_image(image, guidance_row("zero123").view.border_ratio)
        wanted = torch.nn.functional.interpolate(wanted[None], (SIZE, SIZE), mode="area")[0]
        both = (alpha[0] > 0.99) & (wanted[3] > 0.99)
        assert both.float().mean() > 0.1
        return float((rgb - wanted[:3])[:, both].detach().abs().mean())

    assert difference(100.0) < 0.5 * difference(0.0)


def test_texels_between_charts_have_the_colour_of_the_nearest_edge(tmp_path: Path) -> None:
    mesh = write_known_mesh(tmp_path / "box.ply")
    config = config_for_mesh(mesh, 2)
    config.pipeline.guidance, config.pipeline.mesh = "known-object", mesh
    asset = trained(config).pipeline.model.asset()
    size = asset.texture.shape[0]
    covered = texels_of(asset, size).pixels
    assert len(covered) < size * size
    texture = asset.texture.copy()
    texture.reshape(-1, 3)[np.setdiff1d(np.arange(size * size), covered)] = 0
    assert np.array_equal(with_gutters(texture, covered), asset.texture)


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    mesh = write_known_mesh(tmp_path / "box.ply")
    config = config_for_mesh(mesh, 2)
    config.pipeline.guidance, config.pipeline.mesh, config.pipeline.noise = "known-object", mesh, (0.1, 0.1)
    first = trained(config)
    config.max_num_iterations, config.load_dir, config.timestamp = 3, first.checkpoint_dir, "later"
    later = trained(config)
    changed = (later.pipeline.model.texels - first.pipeline.model.texels).abs().sum(dim=-1) > 0
    assert later.step == 2
    assert 0 < float(changed.float().mean()) < 0.8  # one side more; a new texture would differ everywhere else too


def test_the_front_of_a_guided_runs_mesh_is_at_90_degrees(tmp_path: Path) -> None:
    mesh = write_known_mesh(tmp_path / "box.ply")
    config = config_for_mesh(mesh, 1)
    config.pipeline.guidance, config.pipeline.mesh, config.pipeline.front = "known-object", mesh, 90.0
    pipeline = config.pipeline.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    position = pipeline.cameras(torch.zeros(1), torch.zeros(1), SIZE).camera_to_worlds[0, :, 3]
    front = directions(torch.zeros(1), torch.zeros(1))[0]
    torch.testing.assert_close(position / position.norm(), front, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("front", "elevation"), [(0.0, 0.0), (90.0, 25.0)])
def test_the_mesh_is_framed_like_the_image(front: float, elevation: float, tmp_path: Path) -> None:
    config = config_for_mesh(write_known_mesh(tmp_path / "box.ply"), 1)
    outputs = config.pipeline.datamanager.dataparser
    outputs.data = config.pipeline.datamanager.data
    mesh = outputs.setup().get_dataparser_outputs().metadata["mesh"]
    row = guidance_row("zero123-xl")
    distance = camera_distance(mesh.vertices, row, front, elevation)
    y_up = torch.from_numpy(mesh.vertices[:, [0, 2, 1]] * [1, 1, -1]).float()
    (pose,) = orbit_camera_to_worlds((front,), (elevation,), distance)
    in_camera = (y_up - pose[:, 3]) @ pose[:, :3]
    pixels = in_camera[:, :2] / -in_camera[:, 2:] * intrinsics(row.view.fov, 100)[0, 0]
    extent = pixels.amax(dim=0) - pixels.amin(dim=0)
    assert float(extent.max()) == pytest.approx(100 * (1 - row.view.border_ratio), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"guidance": "zero1234", "prompt": "a cow"}, "There is no guidance zero1234"),
        ({"weights": "weights"}, "say what to make with --pipeline.prompt"),
        ({"guidance": "zero123", "weights": "weights"}, "name its file with --pipeline.image"),
        ({"guidance": "known-object"}, "name its file with --pipeline.mesh"),
        ({"prompt": "a cow", "weights": "weights", "guidance": "sdxl", "image": "cup.png"}, "and sdxl is none"),
        ({"image": "cup.png", "weights": "weights"}, "there is no file .*cup.png"),
        ({"prompt": "a cow", "weights": "weights", "given_weight": -1.0}, "--pipeline.given-weight cannot be negative"),
        ({"prompt": "a cow", "weights": "weights", "noise": (0.5, 0.0)}, "--pipeline.noise is 0.5 0"),
        ({"prompt": "a cow", "weights": "weights", "render_size": 4}, "--pipeline.render-size is 4"),
        ({"prompt": "a cow", "weights": "weights", "texture_size": 4}, "texture of 4 pixels cannot be made"),
    ],
)
def test_bad_options_are_said_in_one_line(
    changes: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights").mkdir()
    config = config_for_mesh(write_known_mesh(tmp_path / "box.ply"), 2)
    for name, value in changes.items():
        setattr(config.pipeline, name, tmp_path / value if name in ("weights", "image") else value)
    with pytest.raises(SystemExit):
        config.print_to_terminal()
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(line, said), said
    assert not (tmp_path / "outputs").exists()


def test_a_file_that_is_no_mesh_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = write_known_mesh(tmp_path / "box.ply")
    config = config_for_mesh(write_object_image(tmp_path / "cup.png"), 2)
    config.pipeline.guidance, config.pipeline.mesh = "known-object", known
    with pytest.raises(SystemExit):
        trained(config)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search("Error: .*cup.png", said) and "Traceback" not in said
    assert not (tmp_path / "outputs" / "object").exists()
