# SPDX-License-Identifier: Apache-2.0
"""The photos of a reconstruction, at the size of stereo and at full size, and which of them stereo compares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from torch import Tensor

from img3d_assets.meshing.surface_view import SurfaceView
from img3d_base.console import print_line
from img3d_base.progress import with_progress
from img3d_base.text_links import followed
from img3d_base.threaded import in_threads
from img3d_dataparsers.image_dataset import Img3dImageDataset
from img3d_dataparsers.seeds.triangulation import moved_world_to_cameras
from img3d_dataparsers.stereo.photo_views import stereo_view
from img3d_kernels.stereo.source_views import choose_sources, depth_range
from img3d_kernels.stereo.views import DepthMap, StereoView
from img3d_methods.mvs.workspace_maps import maps_beside
from img3d_methods.splat.seed_points import random_points_in_frusta

MAX_PIXELS = 80_000_000
"""Maximum number of pixels of all photos together at the size of stereo: each takes 40 bytes."""
MIN_POINTS = 100
"""Minimum number of sparse points: fewer do not tell which photos overlap, and where."""
POINTS_IN_VIEW = 5000
"""Number of random points that are used instead of too few sparse ones."""
MIN_ALPHA = 0.5
"""Minimum alpha of pixels that the texture is made from."""


@dataclass(frozen=True)
class MvsPhotos:
    """The training photos of a data set."""

    outputs: DataparserOutputs
    """The photos, with cameras at their full size; lens distortion is removed when they are read."""
    image_size: int
    """Longest side in pixels at the size of stereo."""

    def __len__(self) -> int:
        return len(self.outputs.image_filenames)

    @cached_property
    def full(self) -> Img3dImageDataset:
        """The photos at full size, with alpha where they have it."""
        return Img3dImageDataset(replace(self.outputs, alpha_color=None))

    @cached_property
    def small(self) -> Img3dImageDataset:
        """The photos at the size of stereo."""
        cameras = self.full.cameras
        longest = float(torch.maximum(cameras.width, cameras.height).max())
        scale = min(self.image_size / longest, 1.0)
        pixels = float((cameras.width * cameras.height).sum()) * scale**2
        if pixels > MAX_PIXELS:
            scale *= (MAX_PIXELS / pixels) ** 0.5
            print_line(
                f"Stereo compares {len(self)} photos at {scale * longest:.0f} pixels: larger ones need more memory"
            )
        return Img3dImageDataset(replace(self.outputs, alpha_color=None), scale)

    @cached_property
    def points(self) -> Float[Tensor, "P 3"]:
        """Sparse points of the scene; random ones in view where the data set has none."""
        points = self.outputs.metadata.get("points3D_xyz")
        if points is not None and len(points) >= MIN_POINTS:
            return points
        return random_points_in_frusta(self.outputs.cameras, POINTS_IN_VIEW)

    @cached_property
    def _pictures(self) -> list[tuple[UInt8[np.ndarray, "_ _ 3"], StereoView]]:
        photos = self.small
        world_to_cameras = moved_world_to_cameras(photos.cameras.camera_to_worlds.double().numpy(), np.zeros(3), 1.0)

        def read(i: int) -> tuple[UInt8[np.ndarray, "_ _ 3"], StereoView]:
            image = photos.get_numpy_image(i)
            return np.ascontiguousarray(image[..., :3]), stereo_view(photos, i, image, world_to_cameras[i])

        return in_threads(read, range(len(photos)), "Reading photos")

    @cached_property
    def given_maps(self) -> list[tuple[Path, Path] | None]:
        """Files of depth and normal maps that the data set has for the photos; empty if it has none."""
        return maps_beside(self.outputs)

    @property
    def views(self) -> list[StereoView]:
        """Grey pictures and cameras of the photos, at the size of stereo."""
        return [view for _, view in self._pictures]

    @property
    def colors(self) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """sRGB pixels of the photos, at the size of stereo."""
        return [rgb for rgb, _ in self._pictures]

    def sources(self, number: int) -> list[list[int]]:
        """For each photo, the indices of at most `number` photos to compare it with."""
        return choose_sources(self.views, self.points, number)

    def ranges(self) -> list[tuple[float, float] | None]:
        """For each photo, the nearest and the farthest depth to search; None if too few points are in view."""
        return [depth_range(view, self.points, with_background=True) for view in self.views]

    def paint(self, maps: Sequence[DepthMap]) -> Iterator[SurfaceView]:
        """The photos at full size, for textures: depth is 1, unless the mask (0) or alpha (infinite) excludes it.

        Args:
            maps: The depth map of each photo.
        """
        photos = self.full
        viewmats = moved_world_to_cameras(photos.cameras.camera_to_worlds.double().numpy(), np.zeros(3), 1.0)
        intrinsics = photos.cameras.get_intrinsics_matrices().double().numpy()
        for i in with_progress(range(len(photos)), "Painting from each photo", len(photos)):
            image, mask = photos.get_numpy_image(i), photos.get_mask(i)
            depth = np.ones(image.shape[:2], np.float32)
            if image.shape[2] == 4:
                depth[image[..., 3] < MIN_ALPHA * 255] = np.inf
            if mask is not None:
                depth[~mask] = 0
            viewmat = np.vstack([viewmats[i], [0.0, 0.0, 0.0, 1.0]])
            measured = maps[i].depth.numpy()
            yield SurfaceView(image[..., :3].astype(np.float32) / 255, depth, viewmat, intrinsics[i], measured)

    def fingerprint(self, recipe: str) -> str:
        """A hash of photos and masks (by size and time), their cameras at the size of stereo, the points, and a recipe.

        Args:
            recipe: Identifies what is made of them.
        """
        digest = hashlib.sha256(recipe.encode())
        masks: list[Path | None] = list(self.outputs.mask_filenames or [None] * len(self))
        for files in zip(self.outputs.image_filenames, masks, strict=True):
            stats = [followed(path).stat() for path in files if path is not None]
            digest.update(repr([(status.st_size, status.st_mtime_ns) for status in stats]).encode())
        for pair in self.given_maps:
            digest.update(repr([(path.stat().st_size, path.stat().st_mtime_ns) for path in pair or ()]).encode())
        cameras = self.small.cameras
        for values in (cameras.camera_to_worlds, cameras.get_intrinsics_matrices(), cameras.width, cameras.height):
            digest.update(values.numpy().tobytes())
        digest.update(self.points.numpy().tobytes())
        return digest.hexdigest()[:16]
