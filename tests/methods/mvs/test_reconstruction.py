# SPDX-License-Identifier: Apache-2.0
"""Photos become a textured mesh; what is done is kept, and found again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stereo_scenes import BALL, RADIUS, WALL_DISTANCE, WALL_NORMAL, stereo_scene

from img3d_base.errors import InputError
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_kernels.stereo.views import DepthMap, StereoView
from img3d_methods.mvs import depth_stage
from img3d_methods.mvs.depth_stage import depth_maps
from img3d_methods.mvs.model import Img3dMvsModel, Img3dMvsModelConfig
from img3d_methods.mvs.photos import MvsPhotos
from img3d_methods.mvs.presets import PRESETS, MvsPreset, with_options
from img3d_methods.mvs.reconstruction import Reconstruction, cache_of, reconstructed
from img3d_methods.mvs.stage_cache import StageCache

PRESET = MvsPreset(image_size=128, num_sources=4, geometric_passes=1, max_points=20_000, faces=6000, texture_size=512)


def photos_in(folder: Path, views: list[StereoView], masked: int) -> MvsPhotos:
    """Photos of views as a data set, the first `masked` columns of each under a mask."""
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    frames = []
    for i, view in enumerate(views):
        name = f"images/{i}.png"
        rgb = np.stack([view.grey.numpy(), view.grey.numpy() // 2, view.grey.numpy()], axis=-1)
        Image.fromarray(rgb).save(folder / name)
        mask = np.full(view.size, 255, np.uint8)
        mask[:, :masked] = 0
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
        pose = torch.linalg.inv(view.viewmat).numpy() @ np.diag([1.0, -1, -1, 1])
        K = view.K.tolist()
        intrinsics = {"fl_x": K[0][0], "fl_y": K[1][1], "cx": K[0][2], "cy": K[1][2], "w": 128, "h": 104}
        frames.append(
            {"file_path": name, "mask_path": f"masks/{i}.png", "transform_matrix": pose.tolist(), **intrinsics}
        )
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    config = Img3dPhotosDataParserConfig(
        data=folder,
        eval_mode="all",
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        load_3D_points=False,
    )
    return MvsPhotos(config.setup().get_dataparser_outputs("train"), PRESET.image_size)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> MvsPhotos:
    """A painted ball before a painted wall, in five photos whose left edge is masked."""
    return photos_in(tmp_path_factory.mktemp("photos"), stereo_scene(128, 104)[0], 12)


@pytest.fixture(scope="module")
def cache(photos: MvsPhotos, tmp_path_factory: pytest.TempPathFactory) -> StageCache:
    return cache_of(photos, PRESET, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def found(photos: MvsPhotos, cache: StageCache) -> Reconstruction:
    return reconstructed(photos, PRESET, cache)


def off_surface(points: np.ndarray) -> np.ndarray:
    """Distances from the ball and the wall, whichever is nearer."""
    length = np.linalg.norm(WALL_NORMAL)
    to_wall = np.abs(points @ np.array(WALL_NORMAL) - WALL_DISTANCE) / length
    return np.minimum(np.abs(np.linalg.norm(points - np.array(BALL), axis=1) - RADIUS), to_wall)


def test_cloud_and_mesh_lie_on_the_surfaces(found: Reconstruction) -> None:
    assert len(found.cloud) > 2000 and 0.5 < found.covered <= 1
    assert np.quantile(off_surface(found.cloud.points), 0.9) < 0.05
    assert np.quantile(off_surface(found.mesh.vertices), 0.9) < 0.08
    assert 0 < len(found.mesh.faces) <= PRESET.faces
    assert found.mesh.texture is not None and found.mesh.texture.shape == (512, 512, 3)


def test_one_line_says_how_much_was_reconstructed(
    photos: MvsPhotos, cache: StageCache, found: Reconstruction, capsys: pytest.CaptureFixture[str]
) -> None:
    again = reconstructed(photos, replace(PRESET, texture_size=64), cache)
    assert again.covered == found.covered
    said = " ".join(capsys.readouterr().out.split())
    assert f"Reconstructed {found.covered:.0%} of the photos' area: {len(found.cloud):,} points, " in said


def test_three_photos_suffice_and_two_are_refused(tmp_path: Path) -> None:
    views = stereo_scene(128, 104)[0]
    for count in (2, 3):
        (tmp_path / str(count)).mkdir()
    with pytest.raises(InputError, match="2 usable photos, at least 3 are needed"):
        photos_in(tmp_path / "2", views[:2], 0)
    three = photos_in(tmp_path / "3", views[:3], 0)
    found = reconstructed(three, PRESET, cache_of(three, PRESET, tmp_path / "cache"))
    assert 0.3 < found.covered <= 1
    assert np.quantile(off_surface(found.cloud.points), 0.9) < 0.1


def test_photos_of_different_places_are_refused(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    views = [
        replace(view, grey=torch.randint(0, 255, view.size, generator=generator).to(torch.uint8))
        for view in stereo_scene(128, 104)[0]
    ]
    photos = photos_in(tmp_path, views, 0)
    with pytest.raises(InputError, match="no depth in common|too little in common|too few for a mesh") as error:
        reconstructed(photos, PRESET, cache_of(photos, PRESET, tmp_path / "cache"))
    assert "\n" not in str(error.value)


def test_the_model_renders_what_the_photos_show(photos: MvsPhotos, found: Reconstruction) -> None:
    model = model_of(photos, found)
    data = photos.full.get_data(0)
    outputs = model.get_outputs_for_camera(photos.full.cameras[0:1])
    metrics, images = model.get_image_metrics_and_images(outputs, data)
    assert metrics["covered_psnr"] > 20 and metrics["coverage"] > 0.7
    assert images["img"].shape == (104, 256, 3)
    # What the mask leaves out is not compared.
    spoiled = data["image"].clone()
    spoiled[:, :12] = 1.0
    assert model.get_image_metrics_and_images(outputs, {**data, "image": spoiled})[0] == metrics


def model_of(photos: MvsPhotos, found: Reconstruction | None) -> Img3dMvsModel:
    model: Any = Img3dMvsModelConfig().setup(scene_box=photos.outputs.scene_box, num_train_data=5, metadata={})
    if found is not None:
        model.set_reconstruction(found.mesh, found.cloud, found.background, found.backdrop)
    return model.eval()


def test_a_checkpoint_holds_mesh_and_points(photos: MvsPhotos, found: Reconstruction) -> None:
    model = model_of(photos, None)
    model.load_state_dict(model_of(photos, found).state_dict())
    np.testing.assert_array_equal(model.asset().faces, found.mesh.faces)
    cloud = model.point_cloud()
    np.testing.assert_allclose(cloud.points, found.cloud.points, atol=1e-5)
    np.testing.assert_allclose(cloud.colors, found.cloud.colors, atol=0.003)
    np.testing.assert_allclose(cloud.normals, found.cloud.normals, atol=2e-3)
    torch.testing.assert_close(model.background(), torch.from_numpy(found.background))
    camera = photos.full.cameras[0:1]
    shown = model.get_outputs_for_camera(camera)
    torch.testing.assert_close(shown["rgb"], model_of(photos, found).get_outputs_for_camera(camera)["rgb"])
    # Holes show the backdrop; in a checkpoint of an earlier version, which has none, their mean colour.
    holes = shown["accumulation"][..., 0] == 0
    assert holes.any() and float((shown["rgb"][holes] - model.background()).abs().mean()) > 0.02
    state = model_of(photos, found).state_dict()
    model.load_state_dict({name: value for name, value in state.items() if not name.startswith("backdrop")})
    plain = model.get_outputs_for_camera(camera)["rgb"]
    torch.testing.assert_close(plain[holes], model.background().expand_as(plain[holes]))
    torch.testing.assert_close(
        plain[~holes & (shown["accumulation"][..., 0] == 1)], shown["rgb"][shown["accumulation"][..., 0] == 1]
    )


def no_stereo(*_: Any) -> None:
    raise AssertionError("depth maps are made again")


def test_depth_maps_come_from_the_cache(
    photos: MvsPhotos, cache: StageCache, found: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(cache.folder.glob("pass-*"))
    monkeypatch.setattr(depth_stage, "stereo_depth_maps", no_stereo)
    maps = depth_maps(photos, PRESET, cache)
    assert len(maps) == 5 and all((found.depth > 0).any() for found in maps)
    assert all((found.depth[:, :12] == 0).all() for found in maps), "the mask is not honoured"


def test_a_damaged_map_is_made_again(
    photos: MvsPhotos, cache: StageCache, found: Reconstruction, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cache.path("depth-0001").read_bytes()
    cache.path("depth-0001").write_bytes(whole[:1000])
    layout = {
        "depth": ("float32", (104, 128)),
        "normals": ("float16", (104, 128, 3)),
        "cost": ("float16", (104, 128)),
    }
    assert cache.read("depth-0001", layout) is None
    assert "it is made again" in " ".join(capsys.readouterr().out.split())
    cache.path("depth-0001").write_bytes(whole)
    assert cache.read("depth-0001", {**layout, "depth": ("float32", (1, 1))}) is None
    assert cache.read("depth-0001", layout) is not None


def test_a_killed_run_goes_on_with_the_same_result(
    photos: MvsPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def stereo(views: Any, sources: Any, ranges: Any, options: Any, report: Any, keep: Any) -> list[DepthMap]:
        def make(i: int) -> DepthMap:
            made.append(i)
            if len(made) == 3:
                raise KeyboardInterrupt
            noise = torch.rand(104, 128, 3, generator=torch.Generator().manual_seed(i))
            normals = torch.nn.functional.normalize(noise, dim=-1)
            return DepthMap(torch.full((104, 128), 1.0 + i), normals, torch.full((104, 128), 0.25))

        return [keep(0, i, lambda i=i: make(i)) for i in range(5)]

    monkeypatch.setattr(depth_stage, "stereo_depth_maps", stereo)
    cache = StageCache(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        depth_maps(photos, PRESET, cache)
    resumed = depth_maps(photos, PRESET, cache)
    assert made == [0, 1, 2, 2, 3, 4]
    again = depth_maps(photos, PRESET, cache)
    for first, second in zip(resumed, again, strict=True):
        torch.testing.assert_close(first.depth, second.depth, rtol=0, atol=0)
        torch.testing.assert_close(first.normals, second.normals, rtol=0, atol=0)
        assert (first.cost == 0.25).all() and (second.cost == 0.25).all(), "two photos confirm a depth by its cost"


def test_a_full_disk_costs_only_the_cache(
    photos: MvsPhotos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    cache = StageCache(tmp_path / "file" / "cache")
    for _ in range(2):
        cache.write("depth-0000", depth=np.zeros(3))
    assert " ".join(capsys.readouterr().out.split()).count("cannot be written") == 1


def test_options_replace_the_preset() -> None:
    changed = with_options(PRESETS["fast"], 0, 1000, 0)
    assert changed.faces == 1000 and changed.image_size == PRESETS["fast"].image_size
    with pytest.raises(InputError, match=r"--pipeline\.texture-size is 9999999: it has to be 64 to 8192"):
        with_options(PRESETS["fast"], 0, 0, 9999999)
