# SPDX-License-Identifier: Apache-2.0
"""Models of every known layout guide, and what is wrong with a repository is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from guidance_repositories import UNET, write_deepfloyd_if, write_sdxl, write_text_to_image, write_zero123
from safetensors.torch import load_file, save_file

from img3d_base.errors import InputError
from img3d_generators.guidance.distillation import ScoreDistillation, refined
from img3d_generators.guidance.rows import ROWS, GuidanceRequest, chosen_row, guidance_row
from img3d_generators.guidance.text_files import load_text_diffusion
from img3d_generators.guidance.views import ViewAngles
from img3d_generators.guidance.zero123_files import load_zero123
from img3d_generators.weights.checkpoints import checkpoints

VIEWS = ViewAngles(torch.tensor([0.0, 70.0]), torch.tensor([20.0, -150.0]), torch.ones(2))
IMAGE = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("perp_neg", [False, True])
@pytest.mark.parametrize("write", [write_text_to_image, write_sdxl, write_deepfloyd_if])
def test_every_layout_of_text_to_image_models(tmp_path: Path, write: Callable[[Path], Path], perp_neg: bool) -> None:
    denoiser = load_text_diffusion(write(tmp_path), "a cow", perp_neg=perp_neg, guidance_scale=5.0)
    pictures = torch.rand(2, 3, 20, 20, requires_grad=True)
    ScoreDistillation(denoiser).loss(pictures, VIEWS, 0, 0.0).backward()
    assert pictures.grad is not None and torch.isfinite(pictures.grad).all() and pictures.grad.abs().max() > 0
    made = refined(denoiser, pictures.detach(), VIEWS, 0.5, 4, torch.Generator().manual_seed(0))
    assert made.shape == (2, 3, denoiser.space.size, denoiser.space.size)
    assert (made >= 0).all() and (made <= 1).all()


def test_what_a_network_predicts_is_taken_as_its_scheduler_says(tmp_path: Path) -> None:
    """The same network, said to predict v: the noise is a mixture of its output and its input."""
    noisy, times = torch.randn(2, 4, 8, 8), torch.tensor([100, 800])
    plain = load_text_diffusion(write_text_to_image(tmp_path / "a"), "a cow", guidance_scale=1.0)
    as_v = load_text_diffusion(
        write_text_to_image(tmp_path / "b", prediction_type="v_prediction"), "a cow", guidance_scale=1.0
    )
    alphas = plain.alphas_cumprod[times][:, None, None, None]
    expected = alphas.sqrt() * plain.predicted_noise(noisy, times, VIEWS) + (1 - alphas).sqrt() * noisy
    torch.testing.assert_close(as_v.predicted_noise(noisy, times, VIEWS), expected)


def test_zero123(tmp_path: Path) -> None:
    denoiser = load_zero123(write_zero123(tmp_path), IMAGE, elevation=10.0, distance=2.0)
    pictures = torch.rand(2, 3, 20, 20, requires_grad=True)
    ScoreDistillation(denoiser).loss(pictures, VIEWS, 0, 0.0).backward()
    assert pictures.grad is not None and pictures.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["cc_projection.weight", "projection.weight"])
def test_the_projection_is_read_strictly(tmp_path: Path, name: str) -> None:
    folder = write_zero123(tmp_path)
    (folder / "clip_camera_projection").rename(folder / "cc_projection")
    file = folder / "cc_projection" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    renamed = {name.replace("weight", key.rpartition(".")[2]): value for key, value in weights.items()}
    save_file(renamed, file)
    load_zero123(folder, IMAGE)
    save_file({**renamed, "more": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="does not fit CameraProjection.*more is unexpected"):
        load_zero123(folder, IMAGE)
    save_file({name: renamed[name]}, file)
    with pytest.raises(InputError, match="does not fit CameraProjection.*bias is missing"):
        load_zero123(folder, IMAGE)


class TestRefusals:
    def test_zero123_as_a_model_of_texts_and_the_other_way_round(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a text-to-image model that can guide: .* takes 8 channels, not 4"):
            load_text_diffusion(write_zero123(tmp_path / "a"), "a cow")
        with pytest.raises(InputError, match="is not Zero123: its network takes 4 channels, not 8"):
            load_zero123(write_text_to_image(tmp_path / "b"), IMAGE)

    def test_a_scheduler_of_another_kind(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="its network predicts flow"):
            load_text_diffusion(write_text_to_image(tmp_path, prediction_type="flow"), "a cow")

    @pytest.mark.parametrize(
        "missing", ["unet/config.json", "tokenizer/vocab.json", "vae/diffusion_pytorch_model.safetensors"]
    )
    def test_a_missing_file(self, tmp_path: Path, missing: str) -> None:
        folder = write_text_to_image(tmp_path)
        (folder / missing).unlink()
        with pytest.raises(InputError):
            load_text_diffusion(folder, "a cow")

    def test_weights_of_another_size(self, tmp_path: Path) -> None:
        folder = write_text_to_image(tmp_path)
        (folder / "unet" / "config.json").write_text(json.dumps({**UNET, "block_out_channels": [8, 8]}))
        with pytest.raises(InputError, match="does not fit UNet2DConditionModel"):
            load_text_diffusion(folder, "a cow")

    def test_a_table_of_files_that_leaves_its_folder(self, tmp_path: Path) -> None:
        folder = write_deepfloyd_if(tmp_path)
        table = folder / "text_encoder" / "model.safetensors.index.json"
        table.write_text(json.dumps({"weight_map": {"shared.weight": "../../secret.safetensors"}}))
        with pytest.raises(InputError, match="is not a file beside it"):
            load_text_diffusion(folder, "a cow")


class TestRows:
    def test_their_weights_are_known(self) -> None:
        for row in ROWS:
            assert set(row.checkpoints) <= checkpoints().keys()

    def test_without_weights_the_line_says_how_to_get_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path))
        monkeypatch.setattr("img3d_generators.weights.weight_files._in_hub_cache", lambda *_: None)
        with pytest.raises(InputError, match="img3d-weights fetch stable-diffusion-2.1-base"):
            chosen_row("auto", "text", None)
        with pytest.raises(InputError, match="img3d-weights fetch zero123-xl"):
            chosen_row("auto", "image", None)
        with pytest.raises(InputError, match="zero123 needs weights: name their folder with --pipeline.weights"):
            chosen_row("zero123", "image", None)
        assert chosen_row("sdxl", "text", tmp_path).name == "sdxl", "a folder of the user's own needs none"

    def test_another_kind_is_refused(self) -> None:
        with pytest.raises(InputError, match="takes an image, not a text; these do: stable-diffusion-2.1"):
            chosen_row("zero123", "text", None)
        with pytest.raises(InputError, match="There is no guidance dalle; there are: stable"):
            chosen_row("dalle", "text", None)
        assert chosen_row("known-object", "image", None).shows == "mesh"

    def test_a_row_loads(self, tmp_path: Path) -> None:
        row = guidance_row("zero123")
        request = GuidanceRequest(folder=write_zero123(tmp_path), image=IMAGE, scale=row.scale, view=row.view)
        denoiser = row.loaded(request)
        assert denoiser.pictures(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 16, 16)
        with pytest.raises(InputError, match="--pipeline.mesh"):
            guidance_row("known-object").loaded(GuidanceRequest())
