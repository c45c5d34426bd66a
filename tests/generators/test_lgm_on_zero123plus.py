# SPDX-License-Identifier: Apache-2.0
"""The published networks together, in small: an image file to six posed views to Gaussians."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zero123plus_repositories import picture, tiny_zero123plus, write_repository

from img3d_base.errors import InputError
from img3d_generators.bridge import DEFAULT_VIEWS, bridge
from img3d_generators.cameras import ZERO123PLUS_RIGS
from img3d_generators.lgm import LGM, UNetConfig
from img3d_generators.lgm_on_zero123plus import image_to_views, published_lgm, views_to_gaussians
from img3d_generators.posed_views import PosedViews
from img3d_generators.weights import weight_files as weights_module
from img3d_generators.zero123plus import model as zero123plus_module
from img3d_pictures.background import Session

TINY_LGM = UNetConfig(
    down_channels=(16, 16, 16, 16, 16, 32),
    down_attention=(False, False, False, False, False, True),
    up_channels=(32, 16, 16, 16),
    up_attention=(True, False, False, False),
    layers_per_block=1,
    num_groups=8,
)


class Everything:
    """Takes the whole picture for the object."""

    def predict(self, img: Image.Image) -> list[Image.Image]:
        return [Image.new("L", img.size, 255)]


def open_everything() -> Session:
    """Opens it."""
    return Everything()


def unwanted() -> Session:
    """Where no background has to be found."""
    raise InputError("rembg is not there")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights with a small Zero123++ in the place of two published ones."""
    folder = tmp_path_factory.mktemp("weights")
    write_repository(folder / "zero123plus-v1.1", tiny_zero123plus())
    for file in (folder / "zero123plus-v1.1").rglob("*.safetensors"):
        published = {"diffusion_pytorch_model": "diffusion_pytorch_model", "model": "pytorch_model"}[file.stem]
        torch.save(_tensors(file), file.with_name(f"{published}.bin"))
        file.unlink()
    white = write_repository(folder / "instantmesh-zero123plus-white", tiny_zero123plus())
    file = white / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(_tensors(file), file.with_suffix(".bin"))
    file.unlink()
    return folder


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {key: value.clone() for key, value in load_file(file).items()}


@pytest.fixture(autouse=True)
def small_and_offline(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small weights, and a grid of tiles of 64 x 64 pixels, which are painted in moments."""
    monkeypatch.setenv("IMG3D_WEIGHTS", str(weights))
    monkeypatch.setattr(zero123plus_module, "GRID_SIZE", (192, 128))
    monkeypatch.setattr(weights_module, "_has_size", lambda path, file: path.is_file())  # the published ones are large


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A cut-out disc."""
    picture(96).save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


class TestViews:
    def test_six_with_the_checkpoint_s_cameras(self, image: Path) -> None:
        views, prepared = image_to_views(image, "zero123plus-v1.1", num_steps=2, open_session=open_everything)
        rig = ZERO123PLUS_RIGS["v1.1"]
        assert views.images.shape == (6, 3, 64, 64)
        assert views.alphas is not None and views.alphas.shape == (6, 1, 64, 64)
        assert views.fov == rig.fov
        torch.testing.assert_close(views.camera_to_worlds, rig.camera_to_worlds())
        assert prepared.shape == (4, 512, 512)
        rows = np.flatnonzero(prepared[3].numpy().max(axis=1) > 0.5)
        assert (rows[0], rows[-1]) == pytest.approx((51, 460), abs=2)  # a border of 0.1 on each side

    def test_those_painted_on_white_need_no_rembg(self, image: Path) -> None:
        views, _ = image_to_views(image, "instantmesh-zero123plus-white", num_steps=2, open_session=unwanted)
        assert views.alphas is None
        assert views.fov == 30

    def test_those_painted_on_grey_do_and_it_is_said_before_anything_is_painted(self, image: Path) -> None:
        def untouched(steps: range) -> range:
            raise AssertionError("it began")

        with pytest.raises(InputError, match="rembg is not there"):
            image_to_views(image, "zero123plus-v1.1", open_session=unwanted, progress=untouched)

    def test_without_weights_two_lines_say_what_to_run(self, image: Path) -> None:
        with pytest.raises(
            InputError, match="zero123plus-v1.2 are not installed.\nimg3d-weights fetch .*\nimg3d-weights pa"
        ):
            image_to_views(image)
        with pytest.raises(InputError, match="lgm-big are not installed.\nimg3d-weights fetch lgm-big"):
            published_lgm()


def test_gaussians_are_those_of_the_network_in_the_world_of_the_views() -> None:
    torch.manual_seed(0)
    rig = ZERO123PLUS_RIGS["v1.2"]
    views = PosedViews(torch.rand(6, 3, 64, 64), rig.camera_to_worlds(), rig.fov)
    network = LGM(TINY_LGM).eval()
    gaussians = views_to_gaussians(views, network, mode="rays")
    bridged = bridge(views.pick(DEFAULT_VIEWS), "rays")
    seen_by_lgm = network.generate(bridged.network_input()).pruned()
    assert len(gaussians) == len(seen_by_lgm) > 0
    in_first_camera = gaussians.means @ views.camera_to_worlds[0, :, :3]
    torch.testing.assert_close(1.2 * in_first_camera, seen_by_lgm.means, atol=1e-4, rtol=0)
    torch.testing.assert_close(1.2 * gaussians.scales, seen_by_lgm.scales, atol=1e-5, rtol=0)
    torch.testing.assert_close(gaussians.colors, seen_by_lgm.colors)
