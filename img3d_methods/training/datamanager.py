# SPDX-License-Identifier: Apache-2.0
"""Data manager that yields photos with their cameras one by one, straight from memory, and rays for exporters that
ask for rays."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager, FullImageDatamanagerConfig
from torch import Tensor

from img3d_base.errors import InputError, some_names, warn
from img3d_base.progress import with_progress
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.photos import Img3dPhotosDataParserConfig
from img3d_methods.compat import folder_of_camera_paths


@dataclass
class Img3dDatamanagerConfig(FullImageDatamanagerConfig):
    """Data manager of all img3d methods."""

    _target: type = field(default_factory=lambda: Img3dDatamanager)
    """Target class to instantiate."""
    dataparser: AnnotatedDataParserUnion = field(default_factory=Img3dPhotosDataParserConfig)
    """The data parser that reads the data."""
    cache_images: Literal["cpu", "gpu"] = field(default_factory=lambda: "gpu" if torch.cuda.is_available() else "cpu")
    """Cache photos in main memory ("cpu") or on the training device ("gpu")."""
    cache_images_type: Literal["uint8", "float32"] = "uint8"
    """Type of the cached photos; uint8 takes a quarter of the memory of float32."""


@dataclass
class GridPixelSampler:
    """Samples a regular grid of one photo's pixels for a batch of rays.

    `ns-export pointcloud` and `poisson` look for such a sampler as `train_pixel_sampler` and set its batch size.
    Unlike random pixels, a grid of one photo's pixels can be rasterised as one picture.
    """

    num_rays_per_batch: int = 32768
    """Approximate number of rays in a batch; fewer if the photo has fewer pixels."""

    def sample(self, height: int, width: int) -> Tensor:
        """Pixel coordinates (y, x), with pixel centres at +0.5.

        Args:
            height: The photo's height in pixels.
            width: The photo's width in pixels.

        Returns:
            `[rows, columns, 2]`, regularly spaced, with a random offset from the photo's corner.
        """
        stride = max(1.0, (height * width / max(1, self.num_rays_per_batch)) ** 0.5)
        rows, columns = (max(1, int(size / stride)) for size in (height, width))
        offset_y = random.uniform(0, height - 1 - (rows - 1) * stride)
        offset_x = random.uniform(0, width - 1 - (columns - 1) * stride)
        y = torch.arange(rows) * stride + offset_y + 0.5
        x = torch.arange(columns) * stride + offset_x + 0.5
        return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)


class Img3dDatamanager(FullImageDatamanager[Img3dImageDataset]):
    """A FullImageDatamanager for machines with and without CUDA.

    Differences: no page-locked memory without CUDA, where it does not exist; the dataset undistorts photos, so its
    cameras are right before the first photo is read; all cores load photos before training starts; and batches are
    made without copying pixels.

    Raises InputError (from the data parser) if there is nothing to train on.
    """

    config: Img3dDatamanagerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dDatamanagerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.train_pixel_sampler = GridPixelSampler()
        self.train_cameras = self.train_dataset.cameras.to(self.device)
        # Slicing Cameras is slow compared with a training step of a small scene, so it is done once.
        self._camera_of_photo = [self.train_cameras[i : i + 1] for i in range(len(self.train_dataset))]

    def setup_train(self) -> None:
        """Loads the training photos before the first step, so that its time is typical; not for ns-eval and other
        commands."""
        if self.test_mode == "val":
            _ = self.cached_train

    def get_datapath(self) -> Path:
        """The folder in which the viewer saves camera paths."""
        return folder_of_camera_paths() or super().get_datapath()

    def _dataset_to_cache(self, split: Literal["train", "eval"]) -> Img3dImageDataset:
        """The photos of a split as they are kept in memory."""
        return self.train_dataset if split == "train" else self.eval_dataset

    def _load_images(
        self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]
    ) -> list[dict[str, Tensor]]:
        """Reads and undistorts all photos of a split in threads, with a progress bar.

        Args:
            split: The dataset to load.
            cache_images_device: The device of the result; with "cpu" and a CUDA device it is page-locked.

        Returns:
            For each photo `image` `[H, W, 3 or 4]`, `mask` `[H, W, 1]` bool if it has one, and `image_idx`.
        """
        dataset = self._dataset_to_cache(split)

        def load(index: int) -> dict[str, Any]:
            data = dataset.get_data(index, image_type=self.config.cache_images_type)
            for key in ("image", "mask"):
                if key in data:
                    if cache_images_device == "gpu":
                        data[key] = data[key].to(self.device)
                    elif torch.cuda.is_available():
                        data[key] = data[key].pin_memory()
            return data

        with ThreadPoolExecutor(self.config.max_thread_workers or os.cpu_count()) as executor:
            photos = executor.map(load, range(len(dataset)))
            loaded = list(with_progress(photos, f"Loading {split} photos", len(dataset)))
        if split == "train":
            _check_masks(loaded, [path.name for path in dataset.image_filenames])
        return loaded

    def next_train(self, step: int) -> tuple[Cameras | RayBundle, dict[str, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next training photo; for `ns-export pointcloud` and `poisson`, rays through it.

        Args:
            step: Ignored; photos come in a shuffled order that depends on train_cameras_sampling_seed only.

        Returns:
            In training a camera `[1]` (with `cam_idx` in its metadata) and the photo as `_load_images` describes it.
            The tensors are those in the cache: do not write into them.
            In test and inference mode (`eval_setup`) a RayBundle `[rows, columns]` and its colours.
        """
        if self.test_mode != "val":
            return self._next_rays()
        index = self._next_index()
        data = dict(self.cached_train[index])
        data["image"] = data["image"].to(self.device)
        # Models rescale the camera that they get, so it has to be a copy, though its tensors need not be.
        camera = copy.copy(self._camera_of_photo[index])
        camera.metadata = {"cam_idx": index}
        return camera, data

    def _next_index(self) -> int:
        """The next training photo of the shuffled order."""
        index = self.train_unseen_cameras.pop(0)
        if not self.train_unseen_cameras:
            self.train_unseen_cameras = self.sample_train_cameras()
        return index

    def _next_rays(self) -> tuple[RayBundle, dict[str, Tensor]]:
        """Rays through a grid of pixels of the next training photo.

        Returns:
            The rays `[rows, columns]`; `image` `[rows, columns, 3 or 4]` in [0, 1] and `indices` `[rows, columns,
            3]` (camera, row, column), as Nerfstudio's pixel samplers name them.
        """
        index = self._next_index()
        image = self.train_dataset.get_image_float32(index)
        coords = self.train_pixel_sampler.sample(image.shape[0], image.shape[1])
        rays = self.train_cameras.generate_rays(camera_indices=index, coords=coords.to(self.device))
        rows, columns = coords.long().unbind(dim=-1)
        batch = {
            "image": image[rows, columns],
            "indices": torch.stack([torch.full_like(rows, index), rows, columns], dim=-1),
        }
        return rays, batch


def _check_masks(photos: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Warns of photos whose masks leave nothing of them.

    Raises:
        InputError: All of them are like that.
    """
    hidden = [name for photo, name in zip(photos, names, strict=True) if "mask" in photo and not photo["mask"].any()]
    if not hidden:
        return
    message = f"The masks of {len(hidden)} of {len(photos)} training photos leave nothing of them"
    if len(hidden) == len(photos):
        raise InputError(f"{message}: white is what is used, so they may have to be inverted")
    warn(f"{message} ({some_names(hidden)})")
