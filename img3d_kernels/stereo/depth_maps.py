# SPDX-License-Identifier: Apache-2.0
"""From pictures to depth maps that agree: stereo for each, the geometric term, and what only one claims left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from img3d_kernels.stereo.consistency import count_agreeing
from img3d_kernels.stereo.patch_match import LEVELS, patch_match, refined
from img3d_kernels.stereo.views import DepthMap, StereoView

Report = Callable[[str, int, int], None]
"""Told the stage, how many views are done, and of how many."""


@dataclass(frozen=True)
class StereoOptions:
    """How much work stereo is."""

    levels: int = LEVELS
    """Sizes of the pictures, each half of the next."""
    geometric_passes: int = 2
    """Times that all depth maps are refined with each other's."""
    min_agreeing: int = 2
    """Other views that must have the same point."""
    seed: int = 0
    """Of all random numbers."""


def stereo_depth_maps(
    views: Sequence[StereoView],
    sources: Sequence[Sequence[int]],
    ranges: Sequence[tuple[float, float] | None],
    options: StereoOptions,
    report: Report = lambda stage, done, total: None,
) -> list[DepthMap]:
    """Depth and normals of every view, where at least `min_agreeing` sources agree.

    Args:
        views: C of them.
        sources: Indices of the views that each is compared with.
        ranges: Nearest and farthest depth of each; None for views that nothing is known of: their maps are empty.
        options: Of the work.
        report: Told how far it has come.
    """
    usable = [i for i in range(len(views)) if ranges[i] is not None and len(sources[i]) > 0]
    maps: dict[int, DepthMap] = {}
    for done, i in enumerate(usable):
        report("Stereo", done, len(usable))
        nearest, farthest = ranges[i] or (0.0, 0.0)
        maps[i] = patch_match(
            views[i],
            [views[j] for j in sources[i]],
            nearest,
            farthest,
            levels=options.levels,
            seed=options.seed + i,
        )
    for number in range(options.geometric_passes):
        previous = dict(maps)
        for done, i in enumerate(usable):
            report("Refining", number * len(usable) + done, options.geometric_passes * len(usable))
            nearest, farthest = ranges[i] or (0.0, 0.0)
            known = [j for j in sources[i] if j in previous]
            if known:
                maps[i] = refined(
                    views[i],
                    [views[j] for j in known],
                    nearest,
                    farthest,
                    previous[i],
                    [previous[j].depth for j in known],
                    seed=options.seed + i + len(views) * (number + 1),
                )
    for i, agreed in _agreed(views, sources, maps, options.min_agreeing).items():
        maps[i] = agreed
    return [maps[i] if i in maps else DepthMap.empty(*view.size) for i, view in enumerate(views)]


def _agreed(
    views: Sequence[StereoView], sources: Sequence[Sequence[int]], maps: dict[int, DepthMap], at_least: int
) -> dict[int, DepthMap]:
    found = {}
    for i, each in maps.items():
        known = [j for j in sources[i] if j in maps]
        # Two photos: all that one other says must do.
        needed = min(at_least, len(known))
        agreeing = count_agreeing(views[i], each.depth, [views[j] for j in known], [maps[j].depth for j in known])
        found[i] = each.where((agreeing >= needed) & (agreeing > 0))
    return found
