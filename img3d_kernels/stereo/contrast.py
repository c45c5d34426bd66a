# SPDX-License-Identifier: Apache-2.0
"""How much texture there is around a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from img3d_kernels.stereo.views import StereoView


def contrast_of(view: StereoView, side: int) -> Float32[Tensor, "H W"]:
    """Standard deviation of the grey values in a square around each pixel, inside the mask.

    Args:
        view: The view.
        side: Of the square, in pixels; odd.
    """
    inside = np.ones(view.size, np.float32) if view.mask is None else view.mask.numpy().astype(np.float32)
    grey = view.grey.numpy().astype(np.float32) * inside
    count, total, squares = (cv2.boxFilter(each, -1, (side, side), normalize=False) for each in (inside, grey, grey**2))
    mean = total / np.maximum(count, 1)
    return torch.from_numpy(np.sqrt(np.maximum(squares / np.maximum(count, 1) - mean**2, 0)))
