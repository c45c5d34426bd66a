# SPDX-License-Identifier: Apache-2.0
"""COLMAP's camera models: rays through pixels are where pycolmap has them; also for lenses that OpenCV lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from known_scene import FloatArray, KnownCamera, write_photo
from test_colmap import POINTS, write_model

from img3d_dataparsers.formats.colmap import LENSES, read_colmap
from img3d_dataparsers.images.undistortion import straight_rays, undistortion_of
from img3d_dataparsers.lenses.lens import PARAMETERS
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_dataparsers.usable_photos import usable_photos

WIDTH, HEIGHT = 64, 48
VALUES = {
    **{"f": 60.0, "fx": 60.0, "fy": 59.0, "cx": 31.0, "cy": 25.0, "k": 0.06, "k1": 0.06, "k2": -0.02, "k3": 0.01},
    **{"k4": 0.03, "k5": 0.02, "k6": 0.01, "p1": 0.004, "p2": -0.003},
}
RAYS = np.array([[x, y] for x in (-0.5, -0.1, 0.3, 0.48) for y in (-0.35, 0.02, 0.3)])
"""In the plane at distance 1: x right, y down."""


def with_lenses(folder: Path, cameras: list[KnownCamera], models: list[str]) -> list[FloatArray]:
    """A data set whose photos have these camera models in turn; returns the models' parameters."""
    names = [f"{i}.png" for i in range(len(cameras))]
    for name in names:
        write_photo(folder / "images" / name, WIDTH, HEIGHT)
    write_model(folder / "sparse/0", names, cameras, POINTS)
    lines, parameters = [], []
    for i in range(len(cameras)):
        model = models[i % len(models)]
        camera = pycolmap.Camera.create_from_model_name(100 - i, model, 60.0, WIDTH, HEIGHT)
        params = [VALUES.get(name.strip(), 0.1) for name in camera.params_info.split(",")]
        lines.append(f"{100 - i} {model} {WIDTH} {HEIGHT} {' '.join(map(repr, params))}\n")
        parameters.append(np.array(params))
    (folder / "sparse/0/cameras.txt").write_text("".join(lines))
    return parameters


@pytest.mark.parametrize("model", sorted(LENSES.keys() - PARAMETERS.keys() - {"EQUIRECTANGULAR"}))
def test_rays_are_pycolmaps(tmp_path: Path, cameras: list[KnownCamera], model: str) -> None:
    [params, *_] = with_lenses(tmp_path, cameras, [model])
    theirs = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params)
    pixels = theirs.img_from_cam(np.concatenate([RAYS, np.ones((len(RAYS), 1))], axis=1))
    outputs = Img3dPhotosDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
    np.testing.assert_allclose(
        straight_rays(outputs.cameras[0], pixels), RAYS, rtol=0, atol=1e-8
    )  # where the iteration ends
    assert (undistortion_of(outputs.cameras[0]) is None) == (model in ("PINHOLE", "SIMPLE_PINHOLE"))


def test_other_methods_see_the_nearest_polynomial(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    """Nerfstudio's cameras know no denominator: with the numerator alone they would be pixels off."""
    [params, *_] = with_lenses(tmp_path, cameras, ["FULL_OPENCV"])
    theirs = pycolmap.Camera(model="FULL_OPENCV", width=WIDTH, height=HEIGHT, params=params)
    pixels = theirs.img_from_cam(np.concatenate([RAYS, np.ones((len(RAYS), 1))], axis=1))
    camera = Img3dPhotosDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train").cameras[:1]
    camera.camera_to_worlds = torch.eye(4)[None, :3]
    rays = camera.generate_rays(
        camera_indices=torch.zeros(len(pixels), 1, dtype=torch.long),
        coords=torch.from_numpy(np.ascontiguousarray(pixels[:, ::-1])).float(),
    )
    x, y, z = rays.directions.numpy().T
    np.testing.assert_allclose(np.stack([x / -z, y / z], axis=1), RAYS, rtol=0, atol=2e-6)  # float32


def test_lenses_may_differ(tmp_path: Path, cameras: list[KnownCamera], capsys: pytest.CaptureFixture[str]) -> None:
    with_lenses(tmp_path, cameras, ["PINHOLE", "OPENCV_FISHEYE"])
    outputs = Img3dPhotosDataParserConfig(data=tmp_path, eval_mode="all").setup().get_dataparser_outputs("train")
    assert [undistortion_of(camera) is None for camera in outputs.cameras] == [True, False, True, False]
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize("model", sorted(PARAMETERS))
def test_models_that_opencv_lacks_become_perspective_views(
    tmp_path: Path, cameras: list[KnownCamera], model: str
) -> None:
    """Rays through their pixels are pycolmap's rays through the photo's, at another size of the photo too."""
    [params, *_] = with_lenses(tmp_path, cameras, [model])
    for i in range(len(cameras)):
        write_photo(tmp_path / f"images/{i}.png", 2 * WIDTH, 2 * HEIGHT)
    outputs = Img3dPhotosDataParserConfig(data=tmp_path).setup().get_dataparser_outputs("train")
    assert {path.stem for path in outputs.image_filenames} == {"centre"}
    assert undistortion_of(outputs.cameras[0]) is None
    theirs = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params)
    [photo, *_] = usable_photos(read_colmap(tmp_path, tmp_path / "sparse/0"), 1)
    assert photo.intrinsics.lens is not None
    rays = np.concatenate([RAYS, np.ones((len(RAYS), 1))], axis=1)
    np.testing.assert_allclose(
        photo.intrinsics.lens.projected(rays), 2 * np.asarray(theirs.img_from_cam(rays)), atol=1e-9
    )


def test_panoramas(tmp_path: Path, cameras: list[KnownCamera]) -> None:
    with_lenses(tmp_path, cameras, ["OPENCV", "EQUIRECTANGULAR"])
    camera_lines = (tmp_path / "sparse/0/cameras.txt").read_text().splitlines()
    lines = [
        f"{line.split()[0]} EQUIRECTANGULAR {WIDTH} {WIDTH // 2} {WIDTH} {WIDTH // 2}" if i % 2 else line
        for i, line in enumerate(camera_lines)
    ]
    (tmp_path / "sparse/0/cameras.txt").write_text("\n".join(lines) + "\n")
    for i in (1, 3):
        write_photo(tmp_path / f"images/{i}.png", WIDTH, WIDTH // 2)
    outputs = Img3dPhotosDataParserConfig(data=tmp_path, eval_mode="all").setup().get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == 2 * (1 + 6)
