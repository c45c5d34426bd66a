# SPDX-License-Identifier: Apache-2.0
"""img3d-small as it comes with img3d: it keeps the given view, and says when a picture is unlike what it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from object_image import write_object_image
from safetensors.torch import load_file, save_file
from test_objects import box
from torch import Tensor

from img3d_assets.color_values import without_white
from img3d_base.errors import InputError
from img3d_generators.cameras import LGM_FOV, LGM_RADIUS, orbit_camera_to_worlds
from img3d_generators.registry import row
from img3d_generators.rendered_views import rendered_views
from img3d_generators.small.columns import INPUT_SIZE
from img3d_generators.small.generator import FAR, SMALL_WEIGHTS, SmallGenerator, load_small, on_white
from img3d_generators.small.objects import BORDER_RATIO, Light, ObjectMesh, input_camera
from img3d_generators.weights.checkpoints import PACKAGE, checkpoint
from img3d_generators.weights.state_dicts import sha256_of


@pytest.fixture(scope="module")
def shipped() -> SmallGenerator:
    """The network with the weights that come with img3d."""
    return load_small()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """A box from above, with straight alpha."""
    shape = ObjectMesh(box((0.9, 0.8, 0.7)))
    placement = shape.placed(30.0, 20.0)
    assert placement is not None
    lit = shape.pictures(placement, input_camera(), INPUT_SIZE).lit(Light())[0]
    return torch.cat([without_white(lit[:3], lit[3:]), lit[3:]])


def test_the_description_in_configs_is_of_these_weights() -> None:
    described = checkpoint("img3d-small")
    assert [PACKAGE / file.path for file in described.files] == [SMALL_WEIGHTS]
    assert described.files[0].size == SMALL_WEIGHTS.stat().st_size <= 25e6
    assert described.files[0].sha256 == sha256_of(SMALL_WEIGHTS)
    assert described.input["size"] == INPUT_SIZE and described.input["border_ratio"] == BORDER_RATIO


def test_the_given_view_is_kept(shipped: SmallGenerator, picture: Tensor) -> None:
    rgb, alpha = shipped.generate(picture).render(input_camera(), LGM_FOV, INPUT_SIZE)
    truth = on_white(picture).permute(1, 2, 0)
    assert -10 * (rgb[0] - truth[..., :3]).square().mean().log10() > 22
    seen, given = alpha[0, ..., 0] > 0.5, truth[..., 3] > 0.5
    assert (seen & given).sum() / (seen | given).sum() > 0.9


def test_a_large_picture_of_the_same_object_gives_the_same(shipped: SmallGenerator, picture: Tensor) -> None:
    """Reduced again it is a little blurred, which shifts the mist's threshold."""
    large = picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    small, from_large = shipped.generate(picture), shipped.generate(large)
    assert len(from_large) == pytest.approx(len(small), rel=0.05)
    poses = orbit_camera_to_worlds([0, 90], [0, 0], LGM_RADIUS)
    (seen, _), (again, _) = (each.render(poses, LGM_FOV, INPUT_SIZE) for each in (small, from_large))
    assert (seen - again).abs().mean() < 0.005


def test_a_picture_of_nothing_gives_nothing(shipped: SmallGenerator) -> None:
    assert len(shipped.generate(torch.zeros(4, 128, 128))) == 0


def test_an_image_file_becomes_itself_and_six_views(tmp_path: Path) -> None:
    views, image = rendered_views("img3d-small", write_object_image(tmp_path / "object.png"), size=64)
    assert views.images.shape == (7, 3, 64, 64) and image.shape[0] == 4
    assert views.alphas is not None
    covered = views.alphas.mean(dim=(1, 2, 3))
    assert (covered > 0.05).all() and (covered < 0.9).all()
    nothing = (views.alphas == 0).expand(-1, 3, -1, -1)
    assert (views.images[nothing] == 1).all()


def test_noise_is_stranger_than_a_box(shipped: SmallGenerator, picture: Tensor) -> None:
    noise = torch.rand(4, 128, 128, generator=torch.Generator().manual_seed(0))
    noise[3] = 1
    assert shipped.strangeness(noise) > 1 > 0.7 * shipped.strangeness(picture)


def test_a_picture_unlike_the_training_set_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Though a run asks twice: for the views that it shows, and for the Gaussians."""
    noise = torch.rand(4, 128, 128, generator=torch.Generator().manual_seed(0))
    noise[3] = 1
    first, again = (row("img3d-small").loaded()(noise, 0) for _ in range(2))
    assert len(first) > 0
    np.testing.assert_array_equal(first.means, again.means)
    assert not np.shares_memory(first.means, again.means), "one may be moved"
    out = " ".join("".join(capsys.readouterr()).split())
    assert out.count("unlike the low-poly objects") == 1 and "img3d-weights list" in out
    row("img3d-small").loaded()(noise.flip(2), 0)
    assert "unlike the low-poly objects" in " ".join("".join(capsys.readouterr()).split())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = load_file(SMALL_WEIGHTS)
    del weights[FAR]
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="another network"):
        load_small(tmp_path / "weights.safetensors")
