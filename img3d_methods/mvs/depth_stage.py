# SPDX-License-Identifier: Apache-2.0
"""The first stage of a reconstruction: depth and normal maps of all photos. Each is kept as soon as it is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from img3d_base.console import print_line
from img3d_base.errors import counted
from img3d_base.progress import ProgressOfStages
from img3d_kernels.stereo.depth_maps import StereoOptions, stereo_depth_maps, view_in_pass
from img3d_kernels.stereo.views import DepthMap, StereoView
from img3d_methods.mvs.photos import MvsPhotos
from img3d_methods.mvs.presets import MvsPreset
from img3d_methods.mvs.stage_cache import Arrays, Layout, StageCache
from img3d_methods.mvs.workspace_maps import read_maps


def depth_maps(photos: MvsPhotos, preset: MvsPreset, cache: StageCache) -> list[DepthMap]:
    """Depth and normals of all photos, at the size of stereo, where several photos agree.

    Args:
        photos: The photos.
        preset: Trades time for quality.
        cache: Stores finished maps; those of an earlier attempt are not made again.
    """
    if photos.given_maps:
        there = sum(pair is not None for pair in photos.given_maps)
        print_line(f"{counted(there, 'depth map')} of the data set's dense workspace: no stereo is needed")
        return read_maps(photos.given_maps, photos.views, float(photos.outputs.dataparser_scale))
    stored = [cache.read(_final(i), _layout(photos.views[i])) for i in range(len(photos))]
    if all(arrays is not None for arrays in stored):
        print_line(f"Depth maps of {counted(len(photos), 'photo')} from the cache {cache.folder}")
        return [_map_of(arrays) for arrays in stored if arrays is not None]
    kept = len(list(cache.folder.glob("pass-*.npz")))
    if kept:
        print_line(f"Going on with {counted(kept, 'depth map')} kept in {cache.folder}")

    def keep(number: int, view: int, make: Callable[[], DepthMap]) -> DepthMap:
        # What is made now is rounded like what is read, so that an interruption changes nothing.
        layout = _layout(view_in_pass(photos.views[view], number, preset.geometric_passes))
        return _map_of(cache.kept(f"pass-{number}-{view:04d}", layout, lambda: _arrays_of(make())))

    sources = photos.sources(preset.num_sources)
    options = StereoOptions(geometric_passes=preset.geometric_passes)
    with ProgressOfStages() as progress:
        maps = stereo_depth_maps(photos.views, sources, photos.ranges(), options, progress, keep)
    final = [_arrays_of(found) for found in maps]
    for i, arrays in enumerate(final):
        cache.write(_final(i), **arrays)
    cache.remove("pass-*")
    return [_map_of(arrays) for arrays in final]


def _final(index: int) -> str:
    return f"depth-{index:04d}"


def _layout(view: StereoView) -> Layout:
    height, width = view.size
    return {
        "depth": ("float32", (height, width)),
        "normals": ("float16", (height, width, 3)),
        "cost": ("float16", (height, width)),
    }


def _arrays_of(found: DepthMap) -> Arrays:
    return {
        "depth": found.depth.numpy(),
        "normals": found.normals.half().numpy(),
        "cost": found.cost.half().numpy(),
    }


def _map_of(arrays: Arrays) -> DepthMap:
    depth, normals, cost = (torch.from_numpy(arrays[name].astype(np.float32)) for name in ("depth", "normals", "cost"))
    return DepthMap(depth, torch.nn.functional.normalize(normals, dim=-1), cost)
