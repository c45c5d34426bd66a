# SPDX-License-Identifier: Apache-2.0
"""The data manager hands out every photo once per round, cheaply, and rays where ns-export asks for rays."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from PIL import Image

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_methods.training.datamanager import GridPixelSampler, Img3dDatamanager, Img3dDatamanagerConfig


def manager_of(data: Path, test_mode: Any = "val", **options: Any) -> Img3dDatamanager:
    config = Img3dDatamanagerConfig(data=data, **options)
    return config.setup(device="cpu", test_mode=test_mode, world_size=1, local_rank=0)


def save_black(mask: Path) -> None:
    mask.parent.mkdir(exist_ok=True)
    Image.new("L", (64, 48)).save(mask)


def one_round(manager: Img3dDatamanager) -> list[int]:
    return [manager.next_train(step)[1]["image_idx"] for step in range(len(manager.train_dataset))]


class TestTraining:
    def test_defaults(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        assert isinstance(manager, FullImageDatamanager), "ns-export asks for it"
        assert isinstance(manager.config.dataparser, Img3dPhotosDataParserConfig)
        assert type(manager.train_dataset) is type(manager.eval_dataset) is Img3dImageDataset
        assert (len(manager.train_dataset), len(manager.eval_dataset)) == (14, 2)
        assert manager.get_datapath() == tiny_scene
        assert manager.get_param_groups() == {}
        assert manager.get_train_rays_per_batch() == 64 * 48

    def test_photo_comes_with_its_own_camera(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        for step in range(14):
            camera, batch = manager.next_train(step)
            index = batch["image_idx"]
            assert isinstance(camera, Cameras) and camera.shape == (1,)
            assert camera.metadata == {"cam_idx": index}
            expected = manager.train_dataset.cameras.camera_to_worlds[index]
            assert torch.equal(camera.camera_to_worlds[0], expected)
            with Image.open(manager.train_dataset.image_filenames[index]) as image:
                np.testing.assert_array_equal(batch["image"].numpy(), np.asarray(image))
            assert batch["image"].dtype == torch.uint8

    def test_masks_that_leave_nothing_are_told(
        self, tiny_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = shutil.copytree(tiny_scene, tmp_path / "scene")
        photos = sorted((data / "images").iterdir())
        for photo in photos[1:3]:
            save_black(data / "masks" / photo.with_suffix(".png").name)
        manager_of(data)
        said = " ".join(capsys.readouterr().out.split())
        assert (
            f"The masks of 2 of 14 training photos leave nothing of them ({photos[1].name}, {photos[2].name})" in said
        )
        for photo in photos:
            save_black(data / "masks" / photo.with_suffix(".png").name)
        with pytest.raises(InputError, match="they may have to be inverted"):
            manager_of(data)

    def test_every_photo_once_per_round_in_an_order_that_the_seed_gives(self, tiny_scene: Path) -> None:
        first, again = manager_of(tiny_scene), manager_of(tiny_scene)
        other = manager_of(tiny_scene, train_cameras_sampling_seed=7)
        rounds = [one_round(first), one_round(first)]
        assert [sorted(indices) for indices in rounds] == [list(range(14))] * 2
        assert rounds[0] != rounds[1]
        assert rounds == [one_round(again), one_round(again)]
        assert one_round(other) != rounds[0]

    def test_models_may_rescale_the_camera_and_extend_the_batch(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        for step in range(28):
            camera, batch = manager.next_train(step)
            assert isinstance(camera, Cameras) and camera.metadata is not None
            assert (camera.width.item(), camera.fx.item()) == (64, 60)
            assert set(batch) == {"image_idx", "image"} and "note" not in camera.metadata
            camera.rescale_output_resolution(0.3)
            camera.metadata["note"] = step
            batch["more"] = step

    def test_photos_are_loaded_before_the_first_step(self, tiny_scene: Path) -> None:
        assert "cached_train" in vars(manager_of(tiny_scene))

    def test_no_pixels_are_copied(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        _, batch = manager.next_train(0)
        assert batch["image"].data_ptr() == manager.cached_train[batch["image_idx"]]["image"].data_ptr()

    def test_a_step_costs_next_to_nothing(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        costs = []
        for step in range(200):
            start = time.thread_time()
            manager.next_train(step)
            costs.append(time.thread_time() - start)
        assert np.median(costs) < 1e-3

    def test_masks(self, copy_scene: Callable[[], Path]) -> None:
        scene = copy_scene()
        (scene / "masks").mkdir()
        Image.fromarray(np.eye(48, 64, dtype=np.uint8) * 255).save(scene / "masks/001.png")
        manager = manager_of(scene)
        masks = {batch["image_idx"]: batch.get("mask") for batch in manager.cached_train}
        mask = masks.pop(0)
        assert mask is not None and torch.equal(mask[..., 0], torch.eye(48, 64, dtype=torch.bool))
        assert all(other is None for other in masks.values()), "photos without a mask are used whole"

    @pytest.mark.long
    def test_more_than_500_photos_need_no_cuda(self, copy_scene: Callable[[], Path], capsys: Any) -> None:
        """Upstream switches to page-locked memory there, which does not exist without CUDA."""
        scene = copy_scene()
        meta = json.loads((scene / "transforms.json").read_text())
        photo = (scene / "images/000.png").read_bytes()
        frames = [{**meta["frames"][i % 16], "file_path": f"images/n{i:03d}.png"} for i in range(580)]
        for frame in frames:
            (scene / frame["file_path"]).write_bytes(photo)
        (scene / "transforms.json").write_text(json.dumps({**meta, "frames": frames}))
        manager = manager_of(scene)
        assert len(manager.cached_train) == 507
        manager.next_train(0)
        assert "overriding cache_images" not in capsys.readouterr().out


class TestEvaluation:
    def test_held_out_photos_in_order(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene, test_mode="test")
        pairs = manager.fixed_indices_eval_dataloader
        assert [batch["image_idx"] for _, batch in pairs] == [0, 1]
        for i, (camera, batch) in enumerate(pairs):
            assert torch.equal(camera.camera_to_worlds[0], manager.eval_dataset.cameras.camera_to_worlds[i])
            assert batch["image"].shape == (48, 64, 3)

    def test_random_held_out_photo(self, tiny_scene: Path) -> None:
        camera, batch = manager_of(tiny_scene).next_eval(0)
        assert camera.shape == (1,) and batch["image"].dtype == torch.uint8

    def test_training_photos_are_not_loaded(self, tiny_scene: Path) -> None:
        assert "cached_train" not in vars(manager_of(tiny_scene, test_mode="test"))
        assert "cached_train" not in vars(manager_of(tiny_scene, test_mode="inference"))


class TestRays:
    @pytest.mark.parametrize("test_mode", ["test", "inference"])
    def test_exporters_get_rays_with_their_colours(self, tiny_scene: Path, test_mode: str) -> None:
        manager = manager_of(tiny_scene, test_mode=test_mode)
        assert manager.train_pixel_sampler is not None
        manager.train_pixel_sampler.num_rays_per_batch = 500  # as ns-export does
        rays, batch = manager.next_train(0)
        assert isinstance(rays, RayBundle)
        assert 0.8 * 500 < len(rays) <= 500 and rays.shape == batch["image"].shape[:2]

        cameras, indices = manager.train_dataset.cameras, batch["indices"]
        photo = int(indices[0, 0, 0])
        assert rays.camera_indices is not None and (rays.camera_indices == photo).all()
        assert torch.equal(
            batch["image"], manager.train_dataset.get_data(photo)["image"][indices[..., 1], indices[..., 2]]
        )

        local = (rays.directions @ cameras.camera_to_worlds[photo, :, :3]).double()
        u = cameras.fx[photo] * local[..., 0] / -local[..., 2] + cameras.cx[photo]
        v = cameras.fy[photo] * -local[..., 1] / -local[..., 2] + cameras.cy[photo]
        assert torch.equal(u.floor().long(), indices[..., 2]) and torch.equal(v.floor().long(), indices[..., 1])
        torch.testing.assert_close(rays.origins[3, 5], cameras.camera_to_worlds[photo, :, 3])

    def test_rays_go_round_all_training_photos(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene, test_mode="test")
        seen = {int(manager.next_train(0)[1]["indices"][0, 0, 0]) for _ in range(14)}
        assert seen == set(range(14))

    def test_rays_are_those_of_a_pinhole_camera(self, tiny_scene: Path) -> None:
        """So that a splat model can rasterise them."""
        from img3d_methods.viewing.ray_bundles import pinhole_of_bundle

        manager = manager_of(tiny_scene, test_mode="test")
        manager.train_pixel_sampler.num_rays_per_batch = 700
        rays, _ = manager.next_train(0)
        assert isinstance(rays, RayBundle) and pinhole_of_bundle(rays) is not None

    @pytest.mark.parametrize("num_rays", [1, 7, 100, 48 * 64, 10**6])
    def test_grid_lies_inside_the_photo(self, num_rays: int) -> None:
        for _ in range(20):
            coords = GridPixelSampler(num_rays).sample(48, 64)
            assert 1 <= coords[..., 0].numel() <= min(num_rays, 48 * 64)
            assert (coords >= 0.5 - 1e-4).all()
            assert (coords[..., 0] <= 47.5 + 1e-4).all() and (coords[..., 1] <= 63.5 + 1e-4).all()

    def test_enough_rays_mean_every_pixel(self) -> None:
        coords = GridPixelSampler(48 * 64).sample(48, 64)
        assert coords.shape == (48, 64, 2)
        torch.testing.assert_close(coords[47, 63], torch.tensor([47.5, 63.5]))
