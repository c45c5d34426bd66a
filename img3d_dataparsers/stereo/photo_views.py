# SPDX-License-Identifier: Apache-2.0
"""Photos of a data set as the views that stereo compares."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.posed_photos import FloatArray
from img3d_kernels.stereo.views import StereoView


def stereo_view(
    photos: Img3dImageDataset,
    index: int,
    image: npt.NDArray[np.uint8],
    world_to_camera: FloatArray,
) -> StereoView:
    """A photo as stereo needs it: grey, with its camera, its outline, and the mask of its opaque pixels that are used.

    Args:
        photos: The data set, whose cameras have the photo's size.
        index: Index of the photo.
        image: Its pixels, from `photos`: `[H, W, 3 or 4]`.
        world_to_camera: `[3, 4]`, OpenCV axes.
    """
    mask, outline = photos.get_mask(index), None
    if image.shape[2] == 4:
        opaque = image[..., 3] > 127
        outline = opaque if mask is None else opaque | ~mask  # what a mask excludes may hide the object
        mask = opaque if mask is None else mask & opaque
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY).astype(np.uint8)
    return StereoView(
        torch.from_numpy(grey),
        photos.cameras.get_intrinsics_matrices()[index].double(),
        torch.from_numpy(np.vstack([world_to_camera, [0.0, 0.0, 0.0, 1.0]])),
        None if mask is None else torch.from_numpy(mask),
        None if outline is None else torch.from_numpy(outline),
    )
