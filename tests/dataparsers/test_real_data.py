# SPDX-License-Identifier: Apache-2.0
"""img3d-photos on real data sets: the fox of Instant-NGP and the chair of NeRF-synthetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

SAME = 1e-5
"""Poses have values up to 1, and intrinsics are relative: single precision (6e-8) in a few products of matrices."""


def both_splits(data: Path, factor: float) -> tuple[DataparserOutputs, DataparserOutputs]:
    parser = Img3dPhotosDataParserConfig(data=data, downscale_factor=factor, triangulate_points=False).setup()
    return parser.get_dataparser_outputs("train"), parser.get_dataparser_outputs("val")


@pytest.fixture
def fox(data_dir: Path) -> Path:
    return data_dir / "fox"


@pytest.fixture
def chair(data_dir: Path) -> Path:
    return data_dir / "chair"


class TestFox:
    def test_every_eighth_of_50_photos_is_held_out(self, fox: Path) -> None:
        train, val = both_splits(fox, 4)
        photos = sorted(path.name for path in (fox / "images").iterdir())
        assert (len(train.image_filenames), len(val.image_filenames)) == (43, 7)
        assert [path.name for path in val.image_filenames] == photos[::8]
        assert val.image_filenames[0].name == "0001.jpg"
        assert (train.cameras.width == 270).all() and (train.cameras.height == 480).all()

    def test_missing_photos_cost_one_warning(self, fox: Path, capsys: pytest.CaptureFixture[str]) -> None:
        train, val = both_splits(fox / "transforms_with_missing_frames.json", 4)
        warnings = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
        assert len(warnings) == 1 and "17 of 67 photos do not exist" in warnings[0]
        whole_train, whole_val = both_splits(fox, 4)
        assert train.image_filenames == whole_train.image_filenames
        assert val.image_filenames == whole_val.image_filenames
        np.testing.assert_allclose(
            train.cameras.camera_to_worlds.numpy(), whole_train.cameras.camera_to_worlds.numpy(), atol=SAME
        )

    def test_cameras_are_those_of_nerfstudios_own_parser(self, fox: Path) -> None:
        train, _ = both_splits(fox, 1)
        config = NerfstudioDataParserConfig(data=fox, downscale_factor=1, eval_mode="interval")
        upstream = config.setup().get_dataparser_outputs("train")
        assert train.image_filenames == upstream.image_filenames
        assert train.dataparser_scale == pytest.approx(upstream.dataparser_scale, rel=SAME)
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height", "distortion_params"):
            ours, theirs = getattr(train.cameras, name), getattr(upstream.cameras, name)
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=SAME, atol=SAME, err_msg=name)
        np.testing.assert_allclose(train.dataparser_transform.numpy(), upstream.dataparser_transform.numpy(), atol=SAME)

    def test_straightened_photo_is_near_the_file(self, fox: Path) -> None:
        _, val = both_splits(fox, 4)
        dataset = Img3dImageDataset(val)
        straight = dataset.get_numpy_image(0).astype(np.float64)
        with Image.open(val.image_filenames[0]) as image:
            reduced = np.asarray(image.reduce(4), dtype=np.float64)
        assert straight.shape == (480, 270, 3)
        # The lens moves what is near the middle by less than a pixel, which costs some levels where there are edges.
        assert np.abs(straight - reduced)[200:280, 100:170].mean() < 8, "the lens hardly moves the middle"
        # Straightening crops to what the photo fills: the focal length changes by the lens's distortion, below 2 %.
        assert dataset.cameras.fx[0].item() == pytest.approx(1375.52 / 4, rel=0.02)


class TestChair:
    def test_splits_and_background(self, chair: Path) -> None:
        train, val = both_splits(chair, 2)
        assert (len(train.image_filenames), len(val.image_filenames)) == (100, 25)
        assert train.alpha_color is not None and train.alpha_color.tolist() == [1, 1, 1]
        data = Img3dImageDataset(train).get_data(0, "uint8")
        assert data["image"].shape == (400, 400, 3)
        assert data["image"][:20].min() == 255, "white where the file is transparent"
        assert data["image"][150:250, 150:250].float().mean() < 240
