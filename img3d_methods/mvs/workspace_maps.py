# SPDX-License-Identifier: Apache-2.0
"""Depth maps that the data set already has: COLMAP's dense workspace, as patch_match_stereo or img3d left it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from img3d_base.errors import InputError, warn
from img3d_dataparsers.stereo.dense_workspace import read_map
from img3d_kernels.stereo.views import DepthMap, StereoView

KINDS = ("geometric", "photometric")
"""Kinds of depth maps, the better one first."""
MAX_ASPECT_DIFFERENCE = 0.02
"""Maximum relative difference of the aspect ratios of a photo and its depth map."""


def maps_beside(outputs: DataparserOutputs) -> list[tuple[Path, Path] | None]:
    """The depth and the normal map of each photo, None where it has none; empty if there is no workspace.

    Photos with lens distortion are not those of a workspace, which are undistorted.
    """
    distortion = outputs.cameras.distortion_params
    if distortion is not None and bool((distortion != 0).any()):
        return []
    found = [_maps_of(path) for path in outputs.image_filenames]
    return found if any(found) else []


def _maps_of(photo: Path) -> tuple[Path, Path] | None:
    for folder in photo.parents:
        maps = folder.parent / "stereo"
        if folder.name == "images" and maps.is_dir():
            name = photo.relative_to(folder)
            for kind in KINDS:
                paths = [maps / f"{which}_maps" / f"{name}.{kind}.bin" for which in ("depth", "normal")]
                if all(path.is_file() for path in paths):
                    return paths[0], paths[1]
    return None


def read_maps(paths: Sequence[tuple[Path, Path] | None], views: Sequence[StereoView], scale: float) -> list[DepthMap]:
    """The maps at the photos' size for stereo; empty, with a warning, where a file is damaged.

    Args:
        paths: As from `maps_beside`.
        views: The photos at the size of stereo.
        scale: Units of the training world per unit of the depth maps.
    """
    maps = []
    for pair, view in zip(paths, views, strict=True):
        found = DepthMap.empty(*view.size)
        if pair is not None:
            try:
                found = _read(*pair, view, scale)
            except InputError as error:
                warn(f"{error}; the photo has no depth")
        maps.append(found)
    return maps


def _read(depth_path: Path, normal_path: Path, view: StereoView, scale: float) -> DepthMap:
    depth, normals = read_map(depth_path, 1), read_map(normal_path, 3)
    height, width = view.size
    ratio = depth.shape[1] / depth.shape[0] * height / width
    if normals.shape[:2] != depth.shape[:2] or abs(ratio - 1) > MAX_ASPECT_DIFFERENCE:
        raise InputError(f"{depth_path} does not have the shape of its photo, or of its normal map")
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.int64)
    there = np.ix_(rows, columns)
    values = torch.from_numpy(depth[there][..., 0] * np.float32(scale))
    directions = torch.from_numpy(np.ascontiguousarray(normals[there]))
    known: Bool[Tensor, "H W"] = values.isfinite() & (values > 0) & directions.isfinite().all(dim=-1)
    if view.mask is not None:
        known &= view.mask
    values = torch.where(known, values, 0.0)
    directions = torch.where(known[..., None], directions, 0.0)
    return DepthMap(values, torch.nn.functional.normalize(directions, dim=-1), torch.where(known, 0.0, 2.0))
