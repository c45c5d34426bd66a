# SPDX-License-Identifier: Apache-2.0
"""Objects that a guidance shapes: they become what the guidance knows, and are runs like all others."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from guidance_repositories import write_text_to_image, write_zero123
from object_image import write_object_image
from PIL import Image
from safetensors.torch import load_file, save_file
from shaped_runs import SIZE, config_for, psnr_of_unseen_views, trained, write_known_mesh

from img3d_base.errors import InputError
from img3d_exporters.load_run import load_run
from img3d_generators.guidance.random_views import directions
from img3d_methods.distilled.failures import failing_in_one_line
from img3d_methods.generated.generated_views import read_views
from img3d_methods.representation import representation_of

MIN_PSNR = 22.0
"""In dB: what a shaped object has to reach from views that it was not shaped on."""


@pytest.fixture(scope="module")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """The mesh, the run's configuration file, and its trainer."""
    folder = tmp_path_factory.mktemp("shaped")
    mesh = write_known_mesh(folder / "known.ply")
    config = config_for("img3d-dreamfusion", folder, 250)
    config.pipeline.guidance, config.pipeline.mesh, config.pipeline.picture_every = "known-object", mesh, 100
    trainer = trained(config)
    return mesh, trainer.base_dir / "config.yml", trainer


@pytest.mark.slow
class TestTheObjectThatTheGuidanceKnows:
    def test_it_is_seen_from_views_that_it_was_not_shaped_on(self, shaped: tuple[Path, Path, Any]) -> None:
        mesh, file, _ = shaped
        assert min(psnr_of_unseen_views(load_run(file).model, mesh)) >= MIN_PSNR

    def test_its_views_are_those_of_the_run(self, shaped: tuple[Path, Path, Any]) -> None:
        run = load_run(shaped[1])
        asset = representation_of(run.model).asset()
        assert asset is not None and len(asset) > 100  # pyright: ignore[reportArgumentType]
        folder = Path(run.model.kwargs["metadata"]["views_folder"])
        photo = read_views(folder)[0].images[3].permute(1, 2, 0)
        with torch.no_grad():
            seen = run.model.get_outputs_for_camera(run.cameras[3:4])["rgb"]
        assert float((seen - photo).abs().mean()) < 0.01

    def test_pictures_of_every_stage_are_on_disk(self, shaped: tuple[Path, Path, Any]) -> None:
        folder = shaped[1].parent / "pictures"
        assert {file.name for file in folder.iterdir()} == {f"step-{step:06d}.png" for step in (0, 100, 200, 249)}
        first, last = (np.asarray(Image.open(folder / f"step-{step:06d}.png"), float) for step in (0, 249))
        assert first.shape == last.shape == (256, 1024, 3)
        assert np.abs(first - last).mean() > 5

    def test_a_checkpoint_continues_with_the_same_random_numbers(self, shaped: tuple[Path, Path, Any]) -> None:
        pipeline = shaped[2].pipeline
        state = copy.deepcopy(pipeline.state_dict())
        _, expected = pipeline.datamanager.next_train(0)
        pipeline.load_pipeline(state, 249)
        _, again = pipeline.datamanager.next_train(0)
        assert float(again["angles"].azimuths) == float(expected["angles"].azimuths)


class TestNetworks:
    def test_zero123_takes_the_image_as_one_of_its_views(self, tmp_path: Path) -> None:
        config = config_for("img3d-zero123", tmp_path, 4)
        config.pipeline.datamanager.data = write_object_image(tmp_path / "cup.png")
        config.pipeline.weights, config.pipeline.elevation = write_zero123(tmp_path / "weights"), 15.0
        trainer = trained(config)
        run = load_run(trainer.base_dir / "config.yml")
        position = run.cameras[0].camera_to_worlds[:, 3]
        torch.testing.assert_close(
            position, directions(torch.tensor([15.0]), torch.tensor([0.0]))[0], atol=1e-5, rtol=0
        )
        photo = read_views(Path(run.model.kwargs["metadata"]["views_folder"]))[0].images[0]
        assert photo.shape[-1] == SIZE and float(photo.min()) < 0.9
        assert [float(point.psnr) > 0 for point in trainer.curve] == [True]

    def test_a_text(self, tmp_path: Path) -> None:
        config = config_for("img3d-dreamfusion", tmp_path, 3)
        config.pipeline.prompt, config.pipeline.weights = "a cow", write_text_to_image(tmp_path / "weights")
        config.pipeline.perp_neg, config.pipeline.noise_levels = True, "random"
        trainer = trained(config)
        assert (trainer.base_dir / "pictures" / "step-000002.png").is_file()


class TestBadCases:
    """Each is said in one line, before anything is written."""

    @pytest.mark.parametrize(
        ("method", "changes", "line"),
        [
            ("img3d-dreamfusion", {"prompt": " ", "weights": "weights"}, "say what to make with --pipeline.prompt"),
            ("img3d-dreamfusion", {"guidance": "known-object"}, "name its file with --pipeline.mesh"),
            ("img3d-dreamfusion", {"guidance": "zero123", "prompt": "a cow"}, "takes an image, not a text"),
            ("img3d-dreamfusion", {"prompt": "a cow"}, "img3d-weights fetch stable-diffusion-2.1-base"),
            ("img3d-zero123", {}, "img3d-weights fetch zero123-xl"),
            ("img3d-zero123", {"weights": "nowhere"}, "there is no file or folder .*nowhere"),
            ("img3d-zero123", {"weights": "weights", "elevation": 95.0}, "--pipeline.elevation is 95"),
        ],
    )
    def test_options(
        self,
        method: str,
        changes: dict[str, Any],
        line: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "none"))
        monkeypatch.setattr("img3d_generators.weights.weight_files._in_hub_cache", lambda *_: None)
        (tmp_path / "weights").mkdir()
        config = config_for(method, tmp_path, 2)
        for name, value in changes.items():
            setattr(config.pipeline, name, tmp_path / value if name == "weights" else value)
        with pytest.raises(SystemExit):
            config.print_to_terminal()
        said = " ".join(capsys.readouterr().out.split())
        assert re.search(line, said), said
        assert not (tmp_path / "outputs").exists()

    def test_weights_that_are_none(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "weights").mkdir()
        config = config_for("img3d-dreamfusion", tmp_path, 2)
        config.pipeline.prompt, config.pipeline.weights = "a cow", tmp_path / "weights"
        with pytest.raises(SystemExit):
            trained(config)
        assert "unet/config.json cannot be read" in "".join(capsys.readouterr().out.split("\n"))
        assert not (tmp_path / "outputs" / "object").exists()

    def test_a_network_whose_numbers_are_not_finite(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = config_for("img3d-dreamfusion", tmp_path, 2)
        folder = write_text_to_image(tmp_path / "weights")
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(file).items()}, file)
        config.pipeline.prompt, config.pipeline.weights = "a cow", folder
        with pytest.raises(SystemExit) as left:
            trained(config)
        assert left.value.code == 1
        said = " ".join(capsys.readouterr().out.split())
        assert "the guidance's prediction is not finite" in said and "Traceback" not in said

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (InputError("the guidance's prediction is not finite"), "not finite"),
            (
                torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                "not enough memory for the guidance",
            ),
            (MemoryError(), "--pipeline.offload"),
        ],
    )
    def test_what_can_happen_in_a_step(
        self, error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit), failing_in_one_line():
            raise error
        assert line in " ".join(capsys.readouterr().out.split())

    def test_other_errors_are_not_hidden(self) -> None:
        with pytest.raises(ValueError), failing_in_one_line():
            raise ValueError


def test_views_are_where_the_options_say(tmp_path: Path) -> None:
    config = config_for("img3d-dreamfusion", tmp_path, 2)
    config.pipeline.guidance, config.pipeline.mesh = "known-object", write_known_mesh(tmp_path / "known.ply")
    config.pipeline.datamanager.elevations = (5.0, 20.0)
    config.print_to_terminal()
    datamanager = config.pipeline.datamanager.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
    angles = [datamanager.next_train(0)[1]["angles"] for _ in range(40)]
    elevations = torch.cat([each.elevations for each in angles])
    assert 5 <= elevations.min() and elevations.max() <= 20
    assert torch.cat([each.azimuths for each in angles]).std() > 60


class TestPerturbations:
    """Of cameras, as DreamFusion's recipe has them."""

    def drawn(self, config: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Poses of training, and where the guidance is told that the cameras are."""
        config.print_to_terminal()
        datamanager = config.pipeline.datamanager.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
        views = [datamanager.next_train(step) for step in range(200)]
        told = torch.cat([directions(view["angles"].elevations, view["angles"].azimuths) for _, view in views])
        return torch.cat([camera.camera_to_worlds for camera, _ in views]), told

    def test_of_the_field_of_a_text(self, tmp_path: Path) -> None:
        config = config_for("img3d-dreamfusion-nerf", tmp_path, 2)
        config.pipeline.prompt, config.pipeline.weights = "a cow", write_text_to_image(tmp_path / "weights")
        poses, told = self.drawn(config)
        moved = (poses[:, :, 3] - told).abs()
        assert 0.055 < moved.max() <= 0.057
        to_origin = torch.nn.functional.normalize(-poses[:, :, 3], dim=1)
        past = torch.rad2deg(torch.acos((-poses[:, :, 2] * to_origin).sum(dim=1)))
        assert 4 < past.mean() < 12, "from the picture's middle to the origin: 0.114 of the distance in both directions"
        upright = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([[0.0, 0, 1]]), poses[:, :, 2]), dim=1)
        tilts = torch.rad2deg(torch.acos((upright * poses[:, :, 0]).sum(dim=1).clamp(-1, 1)))
        assert 0.3 < tilts.mean() < 3, "0.02 of a radian"

    @pytest.mark.parametrize("method", ["img3d-dreamfusion", "img3d-dreamfusion-nerf"])
    def test_a_known_object_has_none(self, method: str, tmp_path: Path) -> None:
        config = config_for(method, tmp_path, 2)
        config.pipeline.guidance, config.pipeline.mesh = "known-object", write_known_mesh(tmp_path / "known.ply")
        poses, told = self.drawn(config)
        torch.testing.assert_close(poses[:, :, 3], told)
        torch.testing.assert_close(poses[:, :, 2], told)

    @pytest.mark.parametrize(
        ("value", "line"),
        [(0.1, "center-perturb is 0.1, but zero123-xl has to be told exact poses"), (-1.0, "cannot be negative")],
    )
    def test_an_image_allows_none(
        self, value: float, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = config_for("img3d-zero123", tmp_path, 2)
        config.pipeline.weights = write_zero123(tmp_path / "weights")
        config.pipeline.datamanager.center_perturb = value
        with pytest.raises(SystemExit):
            config.print_to_terminal()
        assert line in " ".join(capsys.readouterr().out.split())


def test_an_index_beyond_the_folders_images(tmp_path: Path) -> None:
    folder = tmp_path / "several"
    write_object_image(folder / "a.png")
    config = config_for("img3d-zero123", folder, 1)
    config.pipeline.datamanager.dataparser.index = 3
    config.pipeline.weights = write_zero123(tmp_path / "weights")
    config.print_to_terminal()
    with pytest.raises(InputError, match="has images 0 to 0"):
        config.pipeline.datamanager.setup(device="cpu", test_mode="val", world_size=1, local_rank=0)
