# SPDX-License-Identifier: Apache-2.0
"""Pictures with depth have it along the optical axis, from whatever renders them, and only where something is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image
from splat_scenes import ALL_SIDES, cameras_at, sphere_of_gaussians
from surface_pictures import WallModel, WallModelElsewhere, cameras_that_look_along_y

from img3d_assets.meshing.surface_view import SurfaceView
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_exporters.meshes.surface_views import (
    cameras_around,
    chosen,
    model_renderer,
    photographed,
    rendered_for,
    splat_renderer,
)


def points_of(view: SurfaceView) -> np.ndarray:
    """World coordinates of what its pixels show."""
    rows, columns = np.nonzero((view.depth > 0) & np.isfinite(view.depth))
    rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1) @ np.linalg.inv(view.K).T
    in_camera = np.c_[rays * view.depth[rows, columns, None], np.ones(len(rows))]
    return (in_camera @ np.linalg.inv(view.viewmat).T)[:, :3]


def test_the_depth_of_gaussians_is_on_them() -> None:
    render = splat_renderer(sphere_of_gaussians())
    for i in range(len(ALL_SIDES)):
        view = render(ALL_SIDES[i : i + 1])
        points = points_of(view)
        assert len(points) > 500
        assert np.abs(np.linalg.norm(points, axis=1) - 1).mean() < 0.03
        assert np.isinf(view.depth[0]).all() and view.rgb.shape == (64, 64, 3)
    red, _, blue = render(cameras_at((0.1, 0, 4))).rgb[24:40, 24:40].mean(axis=(0, 1))
    assert red > 2 * blue


def test_what_shines_through_does_not_move_the_depth() -> None:
    splats = sphere_of_gaussians()
    splats.opacities[:] = 1.4  # 0.8
    splats.log_scales[:, 1:] += np.float32(np.log(2))
    points = points_of(splat_renderer(splats)(cameras_at((0.1, 0, 4))))
    assert np.abs(np.linalg.norm(points, axis=1) - 1).max() < 0.15
    assert points[:, 2].min() > -0.2  # none of its far side


def test_translucent_layers_are_at_the_first_of_them_if_they_are_made_firmer() -> None:
    layers = sphere_of_gaussians(10)
    layers.means[:] = np.c_[np.zeros((10, 2)), -0.05 * np.arange(10)]
    layers.log_scales[:] = np.log([1, 1, 0.01])
    layers.quats[:] = [1, 0, 0, 0]
    layers.opacities[:] = -0.85  # 0.3
    camera = cameras_at((0.0, 0, 4))
    assert 4.08 < splat_renderer(layers)(camera).depth[32, 32] < 4.12
    assert 4 < splat_renderer(layers, firmness=4)(camera).depth[32, 32] < 4.03


def test_a_pixel_that_is_partly_covered_has_the_colour_of_what_covers_it() -> None:
    one = sphere_of_gaussians(1)
    one.means[:] = one.sh_rest[:] = 0
    one.log_scales[:], one.opacities[:] = np.log(0.3), 0.7  # 0.67
    view = splat_renderer(one)(cameras_at((0.1, 0, 4)))
    assert view.rgb[32, 32] == pytest.approx(one.colors()[0], abs=0.01)
    assert np.isinf(view.depth[0, 0]) and view.depth[32, 32] == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("model", [WallModel(), WallModelElsewhere()])
def test_the_depth_of_other_models_is_turned_from_along_the_ray(model: WallModel) -> None:
    cameras = cameras_that_look_along_y(3)
    render = model_renderer(model)  # pyright: ignore[reportArgumentType]
    for i in range(3):
        view = render(cameras[i : i + 1])
        known = (view.depth > 0) & np.isfinite(view.depth)
        np.testing.assert_allclose(view.depth[known], 2, atol=1e-5)  # the wall is square to the axis
        np.testing.assert_allclose(points_of(view)[:, 1], 2, atol=1e-5)
        assert np.isinf(view.depth[-1]).all()  # below the wall


def test_numbers_that_are_none_are_no_depth() -> None:
    broken = WallModel().get_outputs_for_camera(cameras_that_look_along_y(1))
    broken["depth"][:5] = float("nan")
    broken["depth"][5:9] = float("inf")
    model = SimpleNamespace(get_outputs_for_camera=lambda camera: broken, device=torch.device("cpu"))
    view = model_renderer(model)(cameras_that_look_along_y(1))  # pyright: ignore[reportArgumentType]
    assert (view.depth[:9] == 0).all()


def test_in_another_frame_it_shows_the_same_points() -> None:
    view = splat_renderer(sphere_of_gaussians())(ALL_SIDES[0:1])
    rotation, translation, scale = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), np.array([1.0, 2, 3]), 0.25
    moved = view.in_frame(np.column_stack([rotation, translation]), scale)
    back = (points_of(moved) @ rotation.T + translation) * scale
    np.testing.assert_allclose(back, points_of(view), atol=1e-5)


def test_a_frame_far_from_the_origin_loses_nothing() -> None:
    """Georeferenced: millions of metres away."""
    view = splat_renderer(sphere_of_gaussians())(ALL_SIDES[0:1])
    origin = np.array([4.6e5, 5.4e6, 300.0])
    moved = view.in_frame(np.column_stack([np.eye(3), -origin]), 1.0)
    inverse = moved.viewmat[:3, :3].T  # as those take it to be who fuse and bake
    points = points_of(view) - (inverse @ view.viewmat[:3, 3] - inverse @ moved.viewmat[:3, 3] - origin)
    np.testing.assert_allclose(points, points_of(view), atol=1e-6)


def test_chosen_cameras_are_few_and_small_and_without_distortion() -> None:
    poses = torch.eye(4)[:3].repeat(10, 1, 1)
    poses[:, 0, 3] = torch.arange(10)
    cameras = Cameras(poses, 900.0, 900.0, 800.0, 610.0, 1600, 1200, torch.full((10, 6), 0.1), CameraType.PERSPECTIVE)
    few = chosen(cameras, 4, 400)
    assert few.camera_to_worlds[:, 0, 3].tolist() == [0, 3, 6, 9]
    assert (int(few.width[0]), int(few.height[0])) == (400, 300)
    assert (float(few.fx[0]), float(few.cy[0])) == (225.0, 152.5)
    assert few.distortion_params is None
    assert int(chosen(cameras, 4, 5000).width[0]) == 1600  # never larger
    panorama = Cameras(poses, 400.0, 200.0, 400.0, 200.0, 800, 400, camera_type=CameraType.EQUIRECTANGULAR)
    assert float(chosen(panorama, 1, 800).fx[0]) == 400  # 90 degrees


def test_cameras_around_see_all_of_it() -> None:
    splats = sphere_of_gaussians()
    splats.means += np.float32(7)
    cameras = cameras_around(splats)
    views, _ = rendered_for(splat_renderer(splats), cameras[::16], textured=False)
    for view in views:
        assert np.isinf(view.depth[[0, -1]]).all() and np.isinf(view.depth[:, [0, -1]]).all()
        assert ((view.depth > 0) & np.isfinite(view.depth)).mean() > 0.2


@pytest.mark.parametrize("dataset_type", [InputDataset, Img3dImageDataset])
def test_photos_come_with_the_models_depth(tiny_scene: Path, dataset_type: type[InputDataset]) -> None:
    outputs = Img3dPhotosDataParserConfig(data=tiny_scene).setup().get_dataparser_outputs("train")
    dataset = dataset_type(outputs)
    render = model_renderer(WallModel())  # pyright: ignore[reportArgumentType]
    views = photographed(render, dataset, WallModel())  # pyright: ignore[reportArgumentType]
    assert len(views) == len(dataset)
    first = next(iter(views))
    photo = np.asarray(Image.open(outputs.image_filenames[0]).convert("RGB"))
    np.testing.assert_allclose(first.rgb * 255, photo, atol=1e-3)
    np.testing.assert_array_equal(first.depth, render(dataset.cameras[:1]).depth)


def test_photos_say_where_they_are_to_be_used(copy_scene: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scene = copy_scene()
    for path in (scene / "images").iterdir():
        alpha = np.full((48, 64), 255, np.uint8)
        alpha[:, :20] = 0
        Image.fromarray(np.dstack([np.asarray(Image.open(path).convert("RGB")), alpha])).save(path)
    outputs = Img3dPhotosDataParserConfig(data=scene).setup().get_dataparser_outputs("train")
    mask = np.ones((48, 64), bool)
    mask[:, 50:] = False
    monkeypatch.setattr(Img3dImageDataset, "get_mask", lambda self, index: mask)
    render = model_renderer(WallModel())  # pyright: ignore[reportArgumentType]
    first = next(iter(photographed(render, Img3dImageDataset(outputs), WallModel())))  # pyright: ignore
    assert np.isinf(first.depth[:, :20]).all()
    assert (first.depth[:, 50:] == 0).all()
