# SPDX-License-Identifier: Apache-2.0
"""Data manager that yields rays through random pixels of all photos, which it holds in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from nerfstudio.cameras.rays import RayBundle
from torch import Tensor

from img3d_base.errors import InputError
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_methods.field.pixel_rays import PixelRays
from img3d_methods.training.datamanager import Img3dDatamanager, Img3dDatamanagerConfig


@dataclass
class Img3dNerfDatamanagerConfig(Img3dDatamanagerConfig):
    """Data manager of radiance fields."""

    _target: type = field(default_factory=lambda: Img3dNerfDatamanager)
    """Target class to instantiate."""
    train_num_rays_per_batch: int = field(default_factory=lambda: 4096 if torch.cuda.is_available() else 1024)
    """Rays in a training step. For bounded fields, the model chooses the number."""


NEAR_SHARE = 0.75
"""Share of the pixels of a training step that lie on or near cut out objects, if there are any. Most other rays meet
nothing and teach nothing; a few must say that there is nothing."""
NEAR = 1 / 32
"""A pixel is near an object within this share of the photo's longer side."""


def near_objects(alpha: UInt8[Tensor, "H W"] | Float[Tensor, "H W"]) -> Bool[Tensor, "H W"]:
    """The pixels on and near what is not transparent."""
    distance = max(1, round(NEAR * max(alpha.shape)))
    seen = (alpha > 0).to(torch.float32)[None]
    for size in ((2 * distance + 1, 1), (1, 2 * distance + 1)):  # a square, side by side
        seen = F.max_pool2d(seen, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    return seen[0] > 0


class PixelsOfPhotos:
    """All pixels of a set of photos that may be trained on.

    Args:
        photos: For each photo `image` `[H, W, 3 or 4]` and, if it has one, `mask` `[H, W, 1]` bool. Each `image` is
            replaced by a view of this object's memory; all get an alpha channel if one has it.

    Raises:
        InputError: The masks exclude every pixel.
    """

    def __init__(self, photos: list[dict[str, Tensor]]) -> None:
        images = [photo["image"] for photo in photos]
        channels = max(image.shape[2] for image in images)
        opaque = 1 if images[0].is_floating_point() else 255
        images = [F.pad(image, (0, channels - image.shape[2]), value=opaque) for image in images]
        self.values = torch.cat([image.reshape(-1, channels) for image in images])
        """Colours of all pixels `[P, 3 or 4]`."""
        self._widths = torch.tensor([image.shape[1] for image in images], device=self.values.device)
        sizes = [image.shape[0] * image.shape[1] for image in images]
        self._ends = torch.tensor(sizes, device=self.values.device).cumsum(0)
        self._starts = self._ends.roll(1)
        self._starts[0] = 0
        self._usable: Tensor | None = None
        if any("mask" in photo for photo in photos):
            masks = [
                photo.get("mask", torch.ones(image.shape[:2])) for photo, image in zip(photos, images, strict=True)
            ]
            self._usable = torch.cat([mask.flatten().to(self.values.device) for mask in masks]).nonzero()[:, 0]
            if len(self._usable) == 0:
                raise InputError("The masks exclude every pixel of every photo: paint the parts to train on white.")
        self._near: Tensor | None = None
        if channels == 4:
            near = torch.cat([near_objects(image[..., 3]).flatten() for image in images])
            if self._usable is not None:
                near &= torch.zeros_like(near).index_fill(0, self._usable, True)
            indices = near.nonzero()[:, 0].to(torch.int32)
            self._near = indices if 0 < len(indices) < len(near) else None
        for photo, image, values in zip(photos, images, self.values.split(sizes), strict=True):
            photo["image"] = values.view(image.shape)

    def sample(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draws pixels at random: `NEAR_SHARE` of them near cut out objects, if there are any, and the others anywhere.

        Args:
            count: The number of pixels, B.

        Returns:
            The indices of their photos `[B]`, coordinates (y, x) `[B, 2]` with pixel centres at +0.5, and values
            `[B, 3 or 4]`.
        """
        num_near = 0 if self._near is None else round(NEAR_SHARE * count)
        num_usable = len(self.values if self._usable is None else self._usable)
        pixels = torch.randint(num_usable, (count - num_near,), device=self.values.device)
        if self._usable is not None:
            pixels = self._usable[pixels]
        if self._near is not None:
            which = torch.randint(len(self._near), (num_near,), device=self.values.device)
            pixels = torch.cat([self._near[which].long(), pixels])
        photos = torch.searchsorted(self._ends, pixels, right=True)
        within, widths = pixels - self._starts[photos], self._widths[photos]
        coords = torch.stack([within // widths, within % widths], dim=-1) + 0.5
        return photos, coords, self.values[pixels]


class Img3dNerfDatamanager(Img3dDatamanager):
    """Yields the photos of an `Img3dDatamanager` as rays.

    Raises:
        InputError: There is nothing to train on.
    """

    config: Img3dNerfDatamanagerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dNerfDatamanagerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.num_rays = config.train_num_rays_per_batch
        """Rays in the next training step."""
        self._rays = PixelRays(self.train_cameras)

    def setup_train(self) -> None:
        """Loads the training photos before the first step; not for ns-eval etc."""
        super().setup_train()
        if self.test_mode == "val":
            self._pixels = PixelsOfPhotos(self.cached_train)

    def _dataset_to_cache(self, split: Literal["train", "eval"]) -> Img3dImageDataset:
        """With alpha where training photos have it: it shows where an object is, and backgrounds can be random."""
        if split == "eval" or self.train_dataparser_outputs.alpha_color is None:
            return super()._dataset_to_cache(split)
        outputs = replace(self.train_dataparser_outputs, alpha_color=None)
        return Img3dImageDataset(outputs, self.config.camera_res_scale_factor)

    def get_train_rays_per_batch(self) -> int:
        return self.num_rays

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Rays through random pixels of all training photos; for exporters, through a grid of pixels of one photo.

        Args:
            step: Ignored.

        Returns:
            In training, rays `[R]` and `image` `[R, 3 or 4]` in [0, 1]; in test and inference mode (`eval_setup`),
            what `Img3dDatamanager.next_train` returns there.
        """
        if self.test_mode != "val":
            return self._next_rays()
        photos, coords, values = self._pixels.sample(self.num_rays)
        rays = self._rays(photos.to(self.device), coords.to(self.device))
        values = values.to(self.device)
        return rays, {"image": values if values.is_floating_point() else values / 255}
