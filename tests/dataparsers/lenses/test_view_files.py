# SPDX-License-Identifier: Apache-2.0
"""Panoramas and wide photos become perspective views: as a pinhole camera sees the room, held out photo by photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from PIL import Image
from textured_room import (
    FloatArray,
    Picture,
    Rays,
    TexturedRoom,
    fisheye_rays,
    panorama_rays,
    perspective_rays,
    poses,
    write_pictures,
    write_transforms,
)

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig

WIDTH, HEIGHT = 240, 120
ROOM = TexturedRoom()


def parse(folder: Path, split: str = "train", **options: object) -> DataparserOutputs:
    config = Img3dPhotosDataParserConfig(data=folder, triangulate_points=False, **options)  # pyright: ignore
    config.orientation_method, config.center_method, config.auto_scale_poses = "none", "none", False
    return config.setup().get_dataparser_outputs(split)


def blurred(image: Picture) -> FloatArray:
    """Without the details that resampling loses."""
    return np.asarray(Image.fromarray(image).reduce(3), dtype=np.float64)


def check_views(outputs: DataparserOutputs, at_most: float) -> None:
    """Compares the first photo's views with the room as their cameras see it, where their masks are white."""
    dataset = Img3dImageDataset(outputs)
    assert (outputs.cameras.camera_type == CameraType.PERSPECTIVE.value).all()
    for i, path in enumerate(outputs.image_filenames):
        if path.parent != outputs.image_filenames[0].parent:
            break
        camera = outputs.cameras[i]
        pose = np.eye(4)
        pose[:3] = camera.camera_to_worlds.double().numpy()
        size = int(camera.width.item()), int(camera.height.item())
        truth = ROOM.picture(pose, size, perspective_rays(float(camera.fx.item()), *size))
        image, mask = dataset.get_numpy_image(i), dataset.get_mask(i)
        seen = np.ones(truth.shape[:2], dtype=bool) if mask is None else mask
        shown = seen[..., None].astype(np.uint8)
        error = np.abs(blurred(shown * image) - blurred(shown * truth))
        assert error.mean() < at_most * seen.mean(), outputs.image_filenames[i]


@pytest.fixture(scope="module")
def panoramas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, cameras = tmp_path_factory.mktemp("panoramas"), poses(4)
    names = write_pictures(folder, cameras, (WIDTH, HEIGHT), panorama_rays(WIDTH, HEIGHT))
    write_transforms(folder, names, cameras, camera_model="EQUIRECTANGULAR")
    return folder


def test_faces_are_what_pinhole_cameras_see(panoramas: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = parse(panoramas, eval_mode="all")
    assert len(outputs.image_filenames) == 24 and outputs.mask_filenames is None
    assert {path.stem for path in outputs.image_filenames} == {"front", "right", "back", "left", "up", "down"}
    assert outputs.cameras.width[0].item() == round(WIDTH / np.pi)
    check_views(outputs, 6.0)
    said = capsys.readouterr().out
    assert "Perspective views: 24 of 4 panoramas, kept in" in said
    written = {path: path.stat().st_mtime_ns for path in panoramas.rglob("views/*/*")}
    parse(panoramas, eval_mode="all")
    assert "Perspective views: 24 of 4 panoramas, from the cache" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in panoramas.rglob("views/*/*")}


def test_no_panorama_is_in_both_splits(panoramas: Path) -> None:
    train, held_out = (
        {path.parent for path in parse(panoramas, split, eval_interval=3).image_filenames} for split in ("train", "val")
    )
    assert (len(train), len(held_out)) == (2, 2) and not train & held_out


def test_faces_meet_without_a_seam(panoramas: Path) -> None:
    """Also behind the camera, where the panorama's left and right edges meet."""
    outputs = parse(panoramas, eval_mode="all")
    faces = {path.stem: np.asarray(Image.open(path), dtype=np.float64) for path in outputs.image_filenames[:6]}
    for left, right in (("front", "right"), ("right", "back"), ("back", "left"), ("left", "front")):
        across = np.abs(faces[left][:, -1] - faces[right][:, 0]).mean()
        within = np.abs(np.diff(faces[left], axis=1)).mean()
        assert across < 1.5 * within


def test_masks_follow(tmp_path: Path, panoramas: Path) -> None:
    cameras = poses(4)
    (tmp_path / "images").symlink_to(panoramas / "images")
    write_transforms(tmp_path, [f"images/{i:02}.jpg" for i in range(4)], cameras, camera_model="EQUIRECTANGULAR")
    mask = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    mask[11 * HEIGHT // 16 :] = 0  # the tripod: everything steeper than 34 degrees
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/01.png")
    outputs = parse(tmp_path, eval_mode="all")
    dataset = Img3dImageDataset(outputs)
    shares = {
        path.stem: 1.0 if (found := dataset.get_mask(i)) is None else float(found.mean())
        for i, path in enumerate(outputs.image_filenames)
        if path.parent.name.startswith("01")
    }
    assert shares["up"] == 1 and "down" not in shares, "the mask leaves nothing of that face"
    assert 0.7 < shares["front"] < 0.9
    assert sum(path.parent.name.startswith("00") for path in outputs.image_filenames) == 6


@pytest.mark.parametrize(
    ("field_of_view", "views"),
    [(100.0, {"00"}), (190.0, {"front", "right", "left", "up", "down"}), (150.0, {"front", "right", "left"})],
)
def test_fisheyes_keep_their_rim(tmp_path: Path, field_of_view: float, views: set[str]) -> None:
    """150 degrees along the longer side of a photo of 4:3, 190 in a circle."""
    width, height = (200, 200) if field_of_view == 190 else (240, 150)
    focal = width / 2 / np.radians(field_of_view / 2)
    cameras = poses(3)
    rays = fisheye_rays(focal, width, height, field_of_view=field_of_view if field_of_view == 190 else 360)
    names = write_pictures(tmp_path, cameras, (width, height), rays)
    write_transforms(tmp_path, names, cameras, camera_model="OPENCV_FISHEYE", fl_x=focal, fl_y=focal)
    outputs = parse(tmp_path, eval_mode="all")
    assert {path.stem for path in outputs.image_filenames[: len(views)]} == views
    if field_of_view > 100:
        check_views(outputs, 6.0)
        assert outputs.mask_filenames is not None
        front = Img3dImageDataset(outputs).get_mask(0)
        assert front is None or front.mean() > 0.9


def test_thin_prism_lenses_are_straightened(tmp_path: Path) -> None:
    """COLMAP's model that OpenCV lacks, at a moderate field of view: one view as large as the photo."""
    width, height, focal = 200, 150, 130.0
    parameters = (focal, focal, 100.0, 75.0, 0.03, 0.0, 0.001, -0.002, 0.0, 0.0, 0.004, 0.001)
    camera = pycolmap.Camera(model="THIN_PRISM_FISHEYE", width=width, height=height, params=parameters)
    cameras = poses(3)
    names = write_pictures(tmp_path, cameras, (width, height), _rays_of(camera))
    keys = "fl_x fl_y cx cy k1 k2 p1 p2 k3 k4 sx1 sy1".split()
    write_transforms(
        tmp_path, names, cameras, camera_model="THIN_PRISM_FISHEYE", **dict(zip(keys, parameters, strict=True))
    )
    outputs = parse(tmp_path, eval_mode="all")
    assert [path.stem for path in outputs.image_filenames] == ["centre"] * 3
    assert (outputs.cameras.width[0].item(), outputs.cameras.height[0].item()) == (width, height)
    dataset = Img3dImageDataset(outputs)
    rays = pycolmap.Camera(
        model="PINHOLE",
        width=width,
        height=height,
        params=[float(getattr(outputs.cameras, name)[0].item()) for name in ("fx", "fy", "cx", "cy")],
    )
    truth = ROOM.picture(cameras[0], (width, height), _rays_of(rays))
    assert np.abs(blurred(dataset.get_numpy_image(0)) - blurred(truth)).mean() < 6


def _rays_of(camera: pycolmap.Camera) -> Rays:
    return lambda pixels: np.asarray(camera.cam_ray_from_img(pixels))


def test_a_panorama_that_is_none_is_one_line(tmp_path: Path) -> None:
    cameras = poses(3)
    (tmp_path / "images").mkdir()
    names = [f"images/{i:02}.jpg" for i in range(3)]
    for name in names:
        Image.new("RGB", (300, 200)).save(tmp_path / name)
    write_transforms(tmp_path, names, cameras, camera_model="EQUIRECTANGULAR")
    with pytest.raises(InputError, match="300 x 200 pixels are not twice as wide as high"):
        parse(tmp_path)
    write_transforms(tmp_path, names, cameras, camera_model="EQUIRECTANGULAR", fl_x=100, fl_y=200)
    with pytest.raises(InputError, match="shows more than a whole sphere"):
        parse(tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(panoramas: Path, tmp_path: Path) -> None:
    (tmp_path / "views").write_text("")
    with pytest.raises(InputError, match="cannot be"):
        parse(panoramas, cache_dir=tmp_path)
