# SPDX-License-Identifier: Apache-2.0
"""A dataset of photos and masks at the size of their cameras, undistorted to pinhole cameras."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from img3d_dataparsers.images.camera_sizes import downscaled
from img3d_dataparsers.images.undistortion import undistorted, undistortion_of
from img3d_pictures.reading import read_mask, read_photo, resize, stored_size_of

UPRIGHT = "upright"
"""Key of `Frame.upright` of each photo in the data parser's metadata."""


class Img3dImageDataset(InputDataset):
    """An InputDataset that resizes photos to their cameras and removes lens distortion when it reads them.

    `cameras`, and the cameras in the data parser's outputs that exporters read, are pinhole cameras from the start.
    Nerfstudio's FullImageDatamanager instead undistorts its cache and leaves the dataset itself distorted, so that
    `ns-render dataset` and `ns-export tsdf` see cameras that do not match the trained model.

    Args:
        dataparser_outputs: The photos, with cameras at the size at which photos are to be read.
        scale_factor: A further factor for the resolution (0.5 for half of it).
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0):
        super().__init__(dataparser_outputs)
        cameras = downscaled(self.cameras, torch.full((len(self), 1), 1 / scale_factor))
        self._undistortions = [undistortion_of(cameras[i]) for i in range(len(self))]
        self.cameras = undistorted(cameras, self._undistortions)
        self._dataparser_outputs = replace(dataparser_outputs, cameras=self.cameras)
        alpha_color = dataparser_outputs.alpha_color
        self._alpha_color = None if alpha_color is None else tuple(alpha_color.tolist())
        self._upright: list[bool] = self.metadata.get(UPRIGHT, [False] * len(self))

    def _size(self, image_idx: int) -> tuple[int, int]:
        return int(self.cameras.width[image_idx].item()), int(self.cameras.height[image_idx].item())

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """The photo `[height, width, 3]`, or `[height, width, 4]` if it has alpha and no background colour is set."""
        path, (width, height) = self.image_filenames[image_idx], self._size(image_idx)
        undistortion = self._undistortions[image_idx]
        if undistortion is None:
            return read_photo(path, width, height, self._alpha_color, self._upright[image_idx])
        # Resampling blurs at the scale of the pixels it is applied to: use finer ones if the file has them.
        factor = 2 if min(stored_size_of(path)) >= 2 * min(width, height) else 1
        image = read_photo(path, factor * width, factor * height, self._alpha_color, self._upright[image_idx])
        return resize(undistortion.at_scale(factor).undistort(image), width, height)

    def get_mask(self, image_idx: int) -> npt.NDArray[np.bool_] | None:
        """The mask `[height, width]`, True where the photo is used; None if all of it is used."""
        mask_filenames = self._dataparser_outputs.mask_filenames
        mask_path = None if mask_filenames is None else mask_filenames[image_idx]
        mask = None
        if mask_path is not None:
            photo = self.image_filenames[image_idx]
            mask = read_mask(mask_path, *self._size(image_idx), self._upright[image_idx], photo)
        undistortion = self._undistortions[image_idx]
        return mask if undistortion is None else undistortion.undistort_mask(mask)

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """One photo in the form that Nerfstudio expects.

        Args:
            image_idx: Index of the photo.
            image_type: float32 in [0, 1], or uint8.

        Returns:
            `image_idx`, `image` `[height, width, 3 or 4]` and, if the photo has one, `mask` `[height, width, 1]` bool.
        """
        image = self.get_image_uint8(image_idx) if image_type == "uint8" else self.get_image_float32(image_idx)
        data: dict[str, Any] = {"image_idx": image_idx, "image": image}
        mask = self.get_mask(image_idx)
        if mask is not None:
            data["mask"] = torch.from_numpy(mask[..., None])
        data.update(self.get_metadata(data))
        return data
