# SPDX-License-Identifier: Apache-2.0
"""Depth and normals of a run's training photos: from stereo where the run has them, else as the model renders them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32
from nerfstudio.cameras.cameras import Cameras

from img3d_dataparsers.stereo.dense_workspace import DensePhoto
from img3d_exporters.meshes.surface_views import Renderer, SurfaceViews, chosen
from img3d_kernels.stereo.views import DepthMap, StereoView
from img3d_methods.representation import photos_with_depth

if TYPE_CHECKING:
    from img3d_exporters.load_run import Run


def depth_of_photos(run: Run, renderer: Callable[[], Renderer], original_frame: bool) -> Iterator[DensePhoto]:
    """The training photos with depth and normals, one by one.

    Args:
        run: A run of any method that renders depth.
        renderer: Makes what renders it, where there is no depth from stereo.
        original_frame: Give poses and depths in the axes and units of the photos' own poses.
    """
    names = relative_names(_files(run))
    measured = photos_with_depth(run.config, run.datamanager)
    photos = (
        _rendered(run.cameras, renderer(), names)
        if measured is None
        else (DensePhoto(name, *photo) for name, photo in zip(names, measured, strict=True))
    )
    for photo in photos:
        yield _in_original_frame(photo, run.dataparser_transform, run.dataparser_scale) if original_frame else photo


def _files(run: Run) -> list[Path]:
    dataset = run.datamanager.train_dataset
    assert dataset is not None
    return list(dataset.image_filenames)


def relative_names(files: Sequence[Path]) -> list[str]:
    """The names of the photos' files, with folders where names alone are not unique, ending in .png."""
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        common = os.path.commonpath([path.parent for path in files])
        names = [Path(os.path.relpath(path, common)).as_posix() for path in files]
    stems = [name.rpartition(".")[0] or name for name in names]
    unique = stems if len(set(stems)) == len(stems) else names
    return [f"{name}.png" for name in unique]


def _rendered(cameras: Cameras, render: Renderer, names: Sequence[str]) -> Iterator[DensePhoto]:
    cameras = chosen(cameras, len(cameras), int(torch.maximum(cameras.width, cameras.height).max()))
    views = SurfaceViews(cameras, lambda camera, _: render(camera), "Depth of each photo")
    for name, view in zip(names, views, strict=True):
        depth = torch.from_numpy(np.where(np.isfinite(view.depth), view.depth, 0).astype(np.float32))
        K, viewmat = torch.from_numpy(view.K), torch.from_numpy(view.viewmat)
        normals = torch.from_numpy(normals_of_depth(depth.numpy(), view.K))
        rgb = np.round(view.rgb * 255).astype(np.uint8)
        grey = torch.from_numpy(np.round(view.rgb.mean(axis=2) * 255).astype(np.uint8))
        yield DensePhoto(name, rgb, StereoView(grey, K, viewmat), DepthMap(depth, normals, torch.zeros_like(depth)))


def normals_of_depth(depth: Float32[np.ndarray, "H W"], K: Float[np.ndarray, "3 3"]) -> Float32[np.ndarray, "H W 3"]:
    """Unit normals towards the camera, in its OpenCV axes, of the surface that a depth map shows; 0 where unknown.

    Args:
        depth: Along the optical axis; 0 where unknown.
        K: Intrinsics in pixels.
    """
    height, width = depth.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1) * depth[..., None]
    normals = np.zeros_like(points)
    # Of the two neighbours along each axis the one whose depth is nearer: the other may be another surface.
    normals[1:-1, 1:-1] = np.cross(_step(points, 0), _step(points, 1))
    lengths = np.linalg.norm(normals, axis=2, keepdims=True)
    known = (lengths > 0) & (depth[..., None] > 0)
    normals = np.where(known, normals / np.where(lengths > 0, lengths, 1), 0)
    towards = (normals * points).sum(axis=2, keepdims=True)
    return np.where(towards > 0, -normals, normals).astype(np.float32)


def _step(points: Float[np.ndarray, "H W 3"], axis: int) -> Float[np.ndarray, "h w 3"]:
    """From each inner pixel to the neighbour along an axis whose depth is nearer; 0 where it is unknown."""
    inner = points[1:-1, 1:-1]
    forward = (points[2:, 1:-1] if axis == 0 else points[1:-1, 2:]) - inner
    backward = inner - (points[:-2, 1:-1] if axis == 0 else points[1:-1, :-2])
    unknown = inner[..., 2:] <= 0
    step = np.where(np.abs(forward[..., 2:]) <= np.abs(backward[..., 2:]), forward, backward)
    return np.where(unknown | (np.abs(step[..., 2:]) >= inner[..., 2:]), 0, step)


def _in_original_frame(photo: DensePhoto, transform: Float[np.ndarray, "3 4"], scale: float) -> DensePhoto:
    viewmat = torch.eye(4, dtype=torch.float64)
    before = photo.view.viewmat.double()
    viewmat[:3] = before[:3, :3] @ torch.from_numpy(transform.astype(np.float64))
    viewmat[:3, 3] += before[:3, 3] / scale
    found = replace(photo.found, depth=photo.found.depth / scale)
    return replace(photo, view=replace(photo.view, viewmat=viewmat), found=found)
