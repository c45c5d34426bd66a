# SPDX-License-Identifier: Apache-2.0
"""img3d-tiny: what comes with img3d is small, and guesses objects that it has not seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from object_image import write_object_image
from tiny_model import from_mean, from_model, from_plane, scores

from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds
from img3d_generators.procedural_objects import object_views
from img3d_generators.rendered_views import rendered_views
from img3d_generators.tiny import (
    CELL,
    TINY_INPUT_SIZE,
    TINY_WEIGHTS,
    TinyLGM,
    load_tiny,
)
from img3d_generators.weights.checkpoints import PACKAGE, checkpoint


@pytest.fixture(scope="module")
def shipped() -> TinyLGM:
    """The network with the weights that come with img3d."""
    return load_tiny()


def test_the_shipped_weights_are_small() -> None:
    assert TINY_WEIGHTS.stat().st_size <= 20e6


def test_the_description_in_configs_is_of_these_weights() -> None:
    described = checkpoint("img3d-tiny")
    assert described.licence == "Apache-2.0"
    assert [PACKAGE / file.path for file in described.files] == [TINY_WEIGHTS]
    assert described.files[0].size == TINY_WEIGHTS.stat().st_size
    assert described.architecture["in_channels"] == 4 * CELL**2 + 6
    assert described.input["size"] == TINY_INPUT_SIZE


def test_novel_views_of_held_out_objects_are_much_better_than_simple_guesses(shipped: TinyLGM) -> None:
    """On 12 of the 100 objects of `benchmarks/tiny_model.py`."""
    guesses = {"model": from_model(shipped), "plane": from_plane, "mean": from_mean(num_objects=20)}
    psnr = {name: score.mean() for name, score in scores(guesses, num_objects=12).items()}
    assert psnr["model"] > 22.0
    assert psnr["model"] > 4.0 + max(psnr["plane"], psnr["mean"])


def test_the_input_view_is_kept(shipped: TinyLGM) -> None:
    views = object_views(1, "held-out", num_inputs=1, num_novel=0)
    front = orbit_camera_to_worlds([0], [0], LGM_RADIUS)
    picture, alpha = shipped.generate(views.rgba(0)).render(front, LGM_FOV, TINY_INPUT_SIZE)
    assert views.psnr(picture.permute(0, 3, 1, 2), [0]).item() > 24
    assert (alpha.permute(0, 3, 1, 2) - views.alpha).abs().mean() < 0.02


def test_an_untrained_network_gives_the_picture_in_layers() -> None:
    views = object_views(1, "held-out", num_inputs=1, num_novel=0)
    gaussians = TinyLGM().generate(views.rgba(0))
    picture, _ = gaussians.render(orbit_camera_to_worlds([0], [0], LGM_RADIUS), LGM_FOV, TINY_INPUT_SIZE)
    inside = -torch.nn.functional.max_pool2d(-views.alpha, 5, stride=1, padding=2)[0, 0] > 0.9
    assert (picture[0][inside] - views.rgb[0].permute(1, 2, 0)[inside]).abs().mean() < 0.03


def test_pictures_of_any_size_are_taken(shipped: TinyLGM) -> None:
    """A larger picture of the same object gives much the same Gaussians."""
    views = object_views(1, "held-out", num_inputs=1, num_novel=0)
    large = torch.nn.functional.interpolate(views.rgba(0)[None], scale_factor=2, mode="nearest")[0]
    small, from_large = shipped.generate(views.rgba(0)), shipped.generate(large)
    assert len(from_large) == pytest.approx(len(small), rel=0.05)
    assert (small.means.mean(dim=0) - from_large.means.mean(dim=0)).abs().max() < 0.02


def test_a_picture_of_nothing_gives_nothing(shipped: TinyLGM) -> None:
    assert len(shipped.generate(torch.zeros(4, 128, 128))) == 0


def test_an_image_file_becomes_itself_and_six_views(tmp_path: Path) -> None:
    views, image = rendered_views("img3d-tiny", write_object_image(tmp_path / "object.png"), size=64)
    assert views.images.shape == (7, 3, 64, 64)
    assert image.shape[0] == 4
    assert views.alphas is not None
    covered = views.alphas.mean(dim=(1, 2, 3))
    assert (covered > 0.05).all() and (covered < 0.5).all()
    nothing = (views.alphas == 0).expand(-1, 3, -1, -1)
    assert (views.images[nothing] == 1).all()
