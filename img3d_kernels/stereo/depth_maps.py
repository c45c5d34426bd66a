# SPDX-License-Identifier: Apache-2.0
"""From pictures to depth maps that agree: stereo for each, the geometric term, and what only one claims left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from img3d_kernels.stereo.consistency import count_agreeing
from img3d_kernels.stereo.patch_match import LEVELS, patch_match, refined
from img3d_kernels.stereo.views import DepthMap, StereoView

Report = Callable[[str, int, int], None]
"""Told the stage, how many views are done, and of how many."""
Keep = Callable[[int, int, Callable[[], DepthMap]], DepthMap]
"""Takes the pass (0 is stereo alone, then the geometric ones), a view's index and a function that makes its map.
Returns the map: made, or kept from an earlier attempt."""


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
    keep: Keep = lambda number, view, make: make(),
) -> list[DepthMap]:
    """Depth and normals of every view, where at least `min_agreeing` sources agree.

    Args:
        views: C of them.
        sources: Indices of the views that each is compared with.
        ranges: Nearest and farthest depth of each; None for views that nothing is known of: their maps are empty.
        options: Of the work.
        report: Told how far it has come.
        keep: Keeps each view's map of each pass, so that a run that was killed can go on.
    """
    usable = [i for i in range(len(views)) if ranges[i] is not None and len(sources[i]) > 0]
    maps: dict[int, DepthMap] = {}
    for done, i in enumerate(usable):
        report("Stereo", done, len(usable))
        maps[i] = keep(0, i, partial(_first, views, sources[i], ranges[i], options, i))
    for number in range(1, options.geometric_passes + 1):
        previous = dict(maps)
        for done, i in enumerate(usable):
            report("Refining", (number - 1) * len(usable) + done, options.geometric_passes * len(usable))
            maps[i] = keep(number, i, partial(_again, views, sources[i], ranges[i], options, i, number, previous))
    for i, agreed in _agreed(views, sources, maps, options.min_agreeing).items():
        maps[i] = agreed
    return [maps[i] if i in maps else DepthMap.empty(*view.size) for i, view in enumerate(views)]


def _first(
    views: Sequence[StereoView],
    sources: Sequence[int],
    span: tuple[float, float] | None,
    options: StereoOptions,
    i: int,
) -> DepthMap:
    """View i's map from the pictures alone."""
    assert span is not None
    others = [views[j] for j in sources]
    return patch_match(views[i], others, *span, levels=options.levels, seed=options.seed + i)


def _again(
    views: Sequence[StereoView],
    sources: Sequence[int],
    span: tuple[float, float] | None,
    options: StereoOptions,
    i: int,
    number: int,
    previous: dict[int, DepthMap],
) -> DepthMap:
    """View i's map with the sources' maps of the pass before."""
    assert span is not None
    known = [j for j in sources if j in previous]
    if not known:
        return previous[i]
    others, depths = [views[j] for j in known], [previous[j].depth for j in known]
    seed = options.seed + i + len(views) * number
    return refined(views[i], others, *span, previous[i], depths, seed=seed)


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
