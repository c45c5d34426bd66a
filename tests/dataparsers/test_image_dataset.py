# SPDX-License-Identifier: Apache-2.0
"""The dataset's photos are what its pinhole cameras would have taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from PIL import Image

from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.images.undistortion import undistortion_of
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_pictures.reading import read_photo

WIDTH, HEIGHT = 320, 240
FX, FY, CX, CY = 260.0, 255.0, 150.5, 128.25
LENSES: dict[str, dict[str, Any]] = {
    "barrel": {"k1": -0.15, "k2": 0.03},
    "pincushion": {"k1": 0.12, "k2": -0.02, "k3": 0.005},
    "tangential": {"k1": 0.05, "p1": 0.008, "p2": -0.006},
    "rational": {
        **{"camera_model": "FULL_OPENCV", "k1": 0.9, "k2": 0.2, "k3": 0.01, "k4": 1.1, "k5": 0.3, "k6": 0.02},
        **{"p1": 0.003, "p2": -0.002},
    },
    "fisheye": {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.01, "k3": 0.002, "k4": -0.001},
}
POINTS = np.array([[x, y, 2.0 + 0.3 * np.sin(3 * x + y)] for x in (-0.8, -0.4, 0.1, 0.7) for y in (-0.6, 0.05, 0.5)])
"""In the camera's coordinates, OpenCV axes (x right, y down, z ahead)."""


def distort(lens: dict[str, Any], points: np.ndarray) -> np.ndarray:
    """Pixels `[P, 2]` of points, by the formulas in OpenCV's documentation of the two camera models."""
    x, y = points[:, 0] / points[:, 2], points[:, 1] / points[:, 2]
    r2 = x**2 + y**2
    k1, k2, k3, k4, p1, p2 = (lens.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if lens.get("camera_model") == "OPENCV_FISHEYE":
        r = np.sqrt(r2)
        theta = np.arctan(r)
        scale = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8) / r
        x, y = x * scale, y * scale
    else:
        k4, k5, k6 = (lens.get(key, 0.0) for key in ("k4", "k5", "k6"))
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
            y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
        )
    return np.stack([FX * x + CX, FY * y + CY], axis=-1)


def spot(u: float, v: float, sigma: float = 2.5) -> np.ndarray:
    """A picture `[HEIGHT, WIDTH]` with a soft spot centred at pixel coordinates (u, v); pixel centres at +0.5."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return 250 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))


def centre_of(picture: np.ndarray) -> np.ndarray:
    """Brightness-weighted mean pixel coordinates of a picture with one spot."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    weights = picture.astype(np.float64)
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def one_photo_per_point(folder: Path, lens: dict[str, Any]) -> Path:
    """A data set with a photo of each of POINTS through a lens; cameras differ so that there is parallax."""
    frames = []
    (folder / "images").mkdir(parents=True)
    for i, (u, v) in enumerate(distort(lens, POINTS)):
        Image.fromarray(np.round(spot(u, v)).astype(np.uint8)).convert("RGB").save(folder / f"images/{i:02d}.png")
        matrix = np.eye(4)
        matrix[0, 3] = i
        frames.append({"file_path": f"images/{i:02d}.png", "transform_matrix": matrix.tolist()})
    meta = {"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": WIDTH, "h": HEIGHT, **lens, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def dataset_of(data: Path, split: str = "train", scale_factor: float = 1.0, **options: Any) -> Img3dImageDataset:
    config = Img3dPhotosDataParserConfig(data=data, triangulate_points=False, **options)
    outputs = config.setup().get_dataparser_outputs(split)
    return Img3dImageDataset(outputs, scale_factor)


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
@pytest.mark.parametrize("factor", [1.0, 2.0, 2.7])
def test_points_fall_where_the_pinhole_cameras_say(tmp_path: Path, lens: dict[str, Any], factor: float) -> None:
    dataset = dataset_of(
        one_photo_per_point(tmp_path / "lens", lens), eval_mode="all", downscale_factor=factor, max_image_size=None
    )
    K = dataset.cameras.get_intrinsics_matrices().double().numpy()
    moved = []
    for i, point in enumerate(POINTS):
        expected = (K[i] @ point)[:2] / point[2]
        measured = centre_of(dataset.get_numpy_image(i)[..., 0])
        np.testing.assert_allclose(measured, expected, atol=0.1)
        moved.append(np.linalg.norm(expected * factor - distort(lens, POINTS[i : i + 1])[0]))
    assert max(moved) > 2, "the lens of this test moves points by pixels"


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES.keys())
def test_cameras_are_pinhole_before_any_photo_is_read(tmp_path: Path, lens: dict[str, Any]) -> None:
    dataset = dataset_of(one_photo_per_point(tmp_path / "lens", lens), max_image_size=160)
    for cameras in (dataset.cameras, dataset._dataparser_outputs.cameras):  # ns-export tsdf reads the latter
        assert cameras.distortion_params is None
        assert (cameras.camera_type == CameraType.PERSPECTIVE.value).all()
        assert (cameras.width == 160).all() and (cameras.height == 120).all()
        assert cameras.metadata == {}


def test_straight_photos_have_no_empty_border(tmp_path: Path) -> None:
    for name, lens in LENSES.items():
        folder = one_photo_per_point(tmp_path / name, lens)
        for path in (folder / "images").iterdir():
            Image.new("RGB", (WIDTH, HEIGHT), "white").save(path)
        data = dataset_of(folder).get_data(0, "uint8")
        assert (data["image"] == 255).all()
        assert data.get("mask", torch.ones(1)).float().mean() > 0.995, "what lies outside the photo is not trained on"


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_straightening_keeps_fine_detail(tmp_path: Path, factor: float) -> None:
    """Linear interpolation at the final resolution, as upstream does it, keeps 83 % and 73 % of this contrast."""
    folder = one_photo_per_point(tmp_path / "lens", LENSES["barrel"])
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH))
    noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))) / 4
    for path in (folder / "images").iterdir():
        Image.fromarray(np.clip(127 + 80 * noise, 0, 255).astype(np.uint8)).convert("RGB").save(path)
    dataset = dataset_of(folder, downscale_factor=factor)
    straight = dataset.get_numpy_image(0).astype(np.float64)
    plain = read_photo(dataset.image_filenames[0], straight.shape[1], straight.shape[0]).astype(np.float64)
    assert straight.std() / plain.std() > 0.93


def test_masks_are_straightened_with_their_photos(tmp_path: Path) -> None:
    folder = one_photo_per_point(tmp_path / "lens", LENSES["pincushion"])
    (folder / "masks").mkdir()
    for path in (folder / "images").iterdir():
        with Image.open(path) as image:
            image.convert("L").point(lambda value: 255 if value > 128 else 0).save(folder / "masks" / path.name)
    dataset = dataset_of(folder, downscale_factor=1.5)
    for i in range(len(dataset)):
        data = dataset.get_data(i)
        assert data["mask"].shape == (*data["image"].shape[:2], 1) and data["mask"].dtype == torch.bool
        where_bright = centre_of(data["image"][..., 0].numpy())
        np.testing.assert_allclose(
            centre_of(data["mask"][..., 0].numpy()), where_bright, rtol=0, atol=0.55
        )  # half a pixel


def test_pinhole_photos_are_not_resampled(tiny_scene: Path) -> None:
    dataset = dataset_of(tiny_scene, "val")
    with Image.open(tiny_scene / "images/008.png") as image:
        np.testing.assert_array_equal(dataset.get_numpy_image(1), np.asarray(image))
    assert "mask" not in dataset.get_data(1)


def test_image_types(tiny_scene: Path) -> None:
    dataset = dataset_of(tiny_scene)
    as_bytes, as_floats = dataset.get_data(0, "uint8"), dataset.get_data(0)
    assert as_bytes["image"].dtype == torch.uint8 and as_floats["image"].dtype == torch.float32
    torch.testing.assert_close(as_bytes["image"] / 255.0, as_floats["image"])
    assert as_floats["image_idx"] == 0


@pytest.mark.parametrize("image_type", ["uint8", "float32"])
def test_alpha_is_replaced_by_the_formats_colour(tmp_path: Path, image_type: Any) -> None:
    frames = []
    for i in range(3):
        Image.new("RGBA", (8, 8), (200, 100, 0, 51)).save(tmp_path / f"{i}.png")
        matrix = np.eye(4)
        matrix[0, 3] = i
        frames.append({"file_path": f"./{i}", "transform_matrix": matrix.tolist()})
    for split in ("train", "test"):
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.7, "frames": frames}))
    image = dataset_of(tmp_path).get_data(0, image_type)["image"]
    expected = np.array([200, 100, 0]) * 0.2 + 255 * 0.8
    scale = 1 if image_type == "uint8" else 255
    np.testing.assert_allclose(image[0, 0].numpy() * scale, expected, rtol=0, atol=1e-4)


def test_scale_factor_of_the_datamanager(copy_scene: Callable[[], Path]) -> None:
    dataset = dataset_of(copy_scene(), scale_factor=0.5)
    assert dataset.get_data(0)["image"].shape == (24, 32, 3)
    assert dataset.cameras.fx[0].item() == 30


def test_photos_of_different_sizes(copy_scene: Callable[[], Path]) -> None:
    scene = copy_scene()
    meta = json.loads((scene / "transforms.json").read_text())
    with Image.open(scene / "images/003.png") as image:
        image.resize((128, 96)).save(scene / "images/003.png")
    meta["frames"][3].update(w=128, h=96, fl_x=120, fl_y=120, cx=64, cy=48)
    (scene / "transforms.json").write_text(json.dumps(meta))
    dataset = dataset_of(scene, max_image_size=100)
    shapes = [tuple(dataset.get_data(i)["image"].shape) for i in range(3)]
    assert shapes == [(48, 64, 3), (48, 64, 3), (75, 100, 3)]
    assert dataset.cameras.fx[2].item() == pytest.approx(120 * 100 / 128)


def test_a_fisheye_that_sees_backwards_keeps_its_middle_sharp() -> None:
    """195 degrees, from a data parser that makes no views: OpenCV's own choice has a third of the focal length, and its
    rim would fill most of the photo."""
    pose, params = torch.eye(4)[None, :3], torch.tensor([[0.05, -0.01, 0.002, -0.001, 0.0, 0.0]])
    fisheye = Cameras(pose, 94.0, 94.0, 160.0, 120.0, 320, 240, params, CameraType.FISHEYE)
    undistortion = undistortion_of(fisheye[0])
    assert undistortion is not None
    assert 320 / undistortion.new_K[0, 0] == pytest.approx(2 * np.tan(np.radians(60)), rel=1e-3)
