# SPDX-License-Identifier: Apache-2.0
"""Rays through random pixels: each with its own pixel's colour, never one that a mask leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nerfstudio.cameras.rays import RayBundle

from img3d_base.errors import InputError
from img3d_methods.field.datamanager import Img3dNerfDatamanager, Img3dNerfDatamanagerConfig, PixelsOfPhotos


def manager_of(data: Path, test_mode: Any = "val", **options: Any) -> Img3dNerfDatamanager:
    config = Img3dNerfDatamanagerConfig(data=data, **options)
    return config.setup(device="cpu", test_mode=test_mode, world_size=1, local_rank=0)


@st.composite
def photos(draw: st.DrawFn) -> list[dict[str, torch.Tensor]]:
    """Of any size, each pixel with a colour of its own, some with alpha, some with masks of one pixel at least."""
    made = []
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    for _ in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
        channels = draw(st.sampled_from([3, 4]))
        photo = {"image": torch.from_numpy(rng.integers(0, 256, (height, width, channels), dtype=np.uint8))}
        if draw(st.booleans()):
            mask = rng.random((height, width, 1)) < 0.5
            mask[rng.integers(height), rng.integers(width)] = True
            photo["mask"] = torch.from_numpy(mask)
        made.append(photo)
    return made


class TestPixels:
    @settings(deadline=None, max_examples=60)
    @given(photos())
    def test_a_pixel_is_that_of_its_photo_and_place(self, photos: list[dict[str, torch.Tensor]]) -> None:
        before = [photo["image"].clone() for photo in photos]
        pixels = PixelsOfPhotos(photos)
        for photo, (y, x), value in zip(*pixels.sample(50), strict=True):
            row, column = int(y), int(x)
            assert (float(y) - row, float(x) - column) == (0.5, 0.5)
            image, mask = before[int(photo)], photos[int(photo)].get("mask")
            assert torch.equal(value[:3], image[row, column, :3])
            assert value[3:].tolist() in ([], [255] if image.shape[2] == 3 else [int(image[row, column, 3])])
            assert mask is None or mask[row, column]
        for photo, image in zip(photos, before, strict=True):
            assert torch.equal(photo["image"][..., : image.shape[2]], image)

    def test_all_usable_pixels_get_their_turn(self) -> None:
        mask = torch.tensor([[True, False, True]])[..., None]
        pixels = PixelsOfPhotos(
            [{"image": torch.zeros(1, 3, 3, dtype=torch.uint8), "mask": mask}, {"image": torch.zeros(2, 1, 3).byte()}]
        )
        torch.manual_seed(0)
        which, coords, _ = pixels.sample(4000)
        seen, counts = torch.cat([which[:, None], coords.long()], dim=1).unique(dim=0, return_counts=True)
        assert seen.tolist() == [[0, 0, 0], [0, 0, 2], [1, 0, 0], [1, 1, 0]]
        assert (counts > 800).all()

    def test_most_pixels_are_near_the_object_but_some_are_anywhere(self) -> None:
        image = torch.zeros(64, 96, 4, dtype=torch.uint8)
        image[20:30, 40:60, 3] = 255
        whole = torch.zeros(64, 96, 3, dtype=torch.uint8)
        torch.manual_seed(0)
        _, coords, _ = PixelsOfPhotos([{"image": image}]).sample(4000)
        rows, columns = coords.T
        near = (rows > 17) & (rows < 33) & (columns > 37) & (columns < 63)
        assert 0.75 < near.float().mean() < 0.8
        assert (rows < 5).any() and (rows > 59).any() and (columns < 5).any() and (columns > 91).any()
        which, _, values = PixelsOfPhotos([{"image": image}, {"image": whole}]).sample(4000)
        assert 0.8 < which.float().mean() < 0.86 and (values[which == 0, 3] == 0).any()  # an opaque photo is near

    def test_a_mask_also_holds_near_the_object(self) -> None:
        image = torch.full((4, 6, 4), 255, dtype=torch.uint8)
        image[2:] = 0
        mask = torch.zeros(4, 6, 1, dtype=torch.bool)
        mask[:, 5] = True
        _, coords, _ = PixelsOfPhotos([{"image": image, "mask": mask}]).sample(500)
        assert (coords[:, 1] == 5.5).all() and len(coords[:, 0].unique()) == 4

    def test_masks_that_leave_nothing_are_said(self) -> None:
        nothing = torch.zeros(2, 2, 1, dtype=torch.bool)
        with pytest.raises(InputError, match="masks"):
            PixelsOfPhotos([{"image": torch.zeros(2, 2, 3, dtype=torch.uint8), "mask": nothing}])


class TestTraining:
    def test_rays_come_from_their_cameras_with_their_colours(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene, train_num_rays_per_batch=200)
        rays, batch = manager.next_train(0)
        assert isinstance(rays, RayBundle) and rays.shape == (200,)
        assert batch["image"].shape == (200, 3) and 0 <= batch["image"].min() <= batch["image"].max() <= 1
        assert manager.get_train_rays_per_batch() == 200
        cameras = manager.train_dataset.cameras
        which = rays.camera_indices[:, 0]  # pyright: ignore[reportOptionalSubscript]
        assert len(which.unique()) > 7
        assert torch.equal(rays.origins, cameras.camera_to_worlds[which, :, 3])
        # Each ray goes through the middle of the pixel whose colour comes with it.
        in_camera = torch.einsum("rij,ri->rj", cameras.camera_to_worlds[which, :, :3], rays.directions)
        u = cameras.fx[which, 0] * in_camera[:, 0] / -in_camera[:, 2] + cameras.cx[which, 0]
        v = cameras.fy[which, 0] * -in_camera[:, 1] / -in_camera[:, 2] + cameras.cy[which, 0]
        for i in range(200):
            photo = manager.train_dataset.get_image_float32(int(which[i]))
            assert abs(float(u[i]) % 1 - 0.5) < 1e-2 and abs(float(v[i]) % 1 - 0.5) < 1e-2
            assert torch.allclose(batch["image"][i], photo[int(v[i]), int(u[i])], atol=1e-6)

    def test_batches_differ(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene)
        assert not torch.equal(manager.next_train(0)[0].directions, manager.next_train(1)[0].directions)

    def test_exporters_get_a_grid_of_one_photo(self, tiny_scene: Path) -> None:
        manager = manager_of(tiny_scene, test_mode="test")
        rays, batch = manager.next_train(0)
        assert rays.origins.dim() == 3 and batch["image"].shape == (*rays.shape, 3)
