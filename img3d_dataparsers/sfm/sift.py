# SPDX-License-Identifier: Apache-2.0
"""SIFT features, and matching them between photos.

pycolmap is not used because on a CPU its matcher takes 1.6 s for two photos with 3000 features each, where a matrix
product takes 0.04 s, and its extractor takes three times as long as OpenCV's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from img3d_dataparsers.posed_photos import FloatArray

CONTRAST_THRESHOLD = 0.02
"""Half of OpenCV's default: plain surfaces need points too, and geometry rejects wrong matches."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Features:
    """The features of one photo."""

    xy: FloatArray
    """`[F, 2]`, pixel centres at +0.5."""
    descriptors: Tensor
    """`[F, 128]`, float16, unit vectors without negative components: RootSIFT (Arandjelović and Zisserman 2012)."""
    rgb: npt.NDArray[np.uint8]
    """`[F, 3]`."""


def find_features(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_] | None, max_features: int) -> Features:
    """Detects SIFT features (Lowe 2004).

    Args:
        image: `[H, W, 3]`, or `[H, W, 4]`; transparent parts have no features.
        mask: `[H, W]`, True where features are wanted; None for everywhere.
        max_features: Largest number; those with the most contrast are kept.
    """
    if image.shape[2] == 4:
        opaque = image[..., 3] > 127
        mask = opaque if mask is None else mask & opaque
    # Without precise upscaling, all features are shifted by a quarter of a pixel.
    sift = cv2.SIFT_create(  # pyright: ignore[reportAttributeAccessIssue]
        max_features, contrastThreshold=CONTRAST_THRESHOLD, enable_precise_upscale=True
    )
    grey = cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_RGB2GRAY)
    keypoints, sifts = sift.detectAndCompute(grey, None if mask is None else mask.astype(np.uint8))
    if not keypoints:
        return Features(np.empty((0, 2)), torch.empty(0, 128, dtype=torch.float16), np.empty((0, 3), dtype=np.uint8))
    xy = np.array([keypoint.pt for keypoint in keypoints], dtype=np.float64)
    column, row = np.round(xy).astype(np.int64).T  # OpenCV's pixel centres are at integers
    height, width = grey.shape
    rgb = image[row.clip(0, height - 1), column.clip(0, width - 1), :3]
    descriptors = torch.from_numpy(sifts)
    descriptors = (descriptors / descriptors.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()
    return Features(xy + 0.5, descriptors.half(), rgb)


def match(first: Tensor, second: Tensor, max_ratio: float) -> IntArray:
    """Matches features of two photos: mutual nearest neighbours that pass Lowe's ratio test.

    Args:
        first: Descriptors `[A, 128]`, float32, unit vectors.
        second: Descriptors `[B, 128]`.
        max_ratio: Largest ratio of the angles to the best and to the second best descriptor.

    Returns:
        Indices `[M, 2]` into both.
    """
    if len(first) < 2 or len(second) < 2:
        return np.empty((0, 2), dtype=np.int64)
    in_second = torch.empty(len(first), dtype=torch.int64)
    best, next_best = torch.empty(len(first)), torch.empty(len(first))
    best_of_second = torch.full((len(second),), -1.0)
    block = 256  # rows whose similarities stay in the processor's cache
    for start in range(0, len(first), block):
        rows = slice(start, start + block)
        similarity = first[rows] @ second.T
        best_of_second = torch.maximum(best_of_second, similarity.amax(dim=0))
        best[rows] = similarity.amax(dim=1)
        in_second[rows] = torch.from_numpy(similarity.numpy().argmax(axis=1))  # torch's takes seven times as long
        next_best[rows] = similarity.scatter_(1, in_second[rows, None], -1.0).amax(dim=1)
    distinct = torch.arccos(best.clamp(max=1)) < max_ratio * torch.arccos(next_best.clamp(max=1))
    mutual = best == best_of_second[in_second]
    index = torch.nonzero(distinct & mutual)[:, 0]
    return torch.stack([index, in_second[index]], dim=1).numpy()
