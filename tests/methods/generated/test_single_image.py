# SPDX-License-Identifier: Apache-2.0
"""`img3d-single-image`: views of one image, made once, as cameras and photos that any method takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from object_image import write_object_image
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_generators.small import generator as small
from img3d_methods.generated.single_image import Img3dSingleImageDataParserConfig


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMG3D_WEIGHTS", str(tmp_path / "no weights"))
    return write_object_image(tmp_path / "images" / "a thing.png")


def parse(data: Path, split: str = "train", **options: Any) -> DataparserOutputs:
    return Img3dSingleImageDataParserConfig(data=data, **options).setup().get_dataparser_outputs(split)


@pytest.fixture
def must_not_generate(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("generated")

    monkeypatch.setattr(small, "load_small", fail)


def test_without_published_weights_our_own_model_makes_the_views(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = parse(image)
    assert len(outputs.image_filenames) == len(outputs.cameras) == 7
    out = capsys.readouterr().out
    assert out.count("No published weights are installed") == 1 and "img3d-weights list" in out


def test_the_first_view_is_the_image_seen_from_plus_x_with_z_up(image: Path) -> None:
    outputs = parse(image)
    pose = outputs.cameras.camera_to_worlds[0]
    torch.testing.assert_close(pose[:, 3], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(pose[:, 1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    photo = Img3dImageDataset(outputs).get_numpy_image(0)
    assert photo.shape == (320, 320, 3)
    assert (photo[:10] == 255).all()  # white around the object
    with Image.open(image) as original:
        pixels = np.asarray(original).astype(float)
    ink, expected = 255.0 - photo, (255 - pixels[..., :3]) * pixels[..., 3:]
    np.testing.assert_allclose(ink.sum(axis=(0, 1)) / ink.sum(), expected.sum(axis=(0, 1)) / expected.sum(), atol=0.01)


def test_seed_points_lie_where_the_object_is(image: Path) -> None:
    points = parse(image).metadata["points3D_xyz"]
    assert len(points) > 500 and points.norm(dim=1).max() < 0.6
    assert "points3D_xyz" not in parse(image, "val").metadata


def test_views_are_made_once(image: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    made = parse(image).image_filenames
    request.getfixturevalue("must_not_generate")
    assert parse(image, "val").image_filenames == made
    assert "from the cache" in capsys.readouterr().out


def test_another_image_under_the_same_name_gets_views_of_its_own(image: Path) -> None:
    first = parse(image).image_filenames[0]
    write_object_image(image, seed=2)
    assert parse(image).image_filenames[0].parent != first.parent


def test_damaged_views_are_made_anew(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = parse(image).image_filenames[1]
    content = first.read_bytes()
    first.write_bytes(content[:100])
    parse(image)
    assert first.read_bytes() == content
    assert "is damaged" in capsys.readouterr().out


def test_one_of_a_folder_s_images(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = write_object_image(image.with_name("b thing.png"), seed=2)
    assert parse(image.parent, index=1).image_filenames == parse(second).image_filenames
    assert "b thing.png is taken, one of 2 images" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(InputError, match="--index is 2, but .* has images 0 to 1"):
        parse(image.parent, index=2)


def test_a_published_generator_without_its_weights_says_what_to_run(image: Path) -> None:
    with pytest.raises(InputError, match="img3d-weights fetch zero123plus-v1.2"):
        parse(image, generator="zero123plus-v1.2")
    assert list((image.parent / ".img3d").iterdir()) == []


def test_a_cache_that_cannot_be_written(image: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache-dir"):
        parse(image, cache_dir=tmp_path / "file")
