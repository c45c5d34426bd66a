# SPDX-License-Identifier: Apache-2.0
"""Depth maps of many views: stereo for each view, refinement with each other's maps, removal of unconfirmed depths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from img3d_kernels.stereo.consistency import MAX_RELATIVE_DIFFERENCE, count_agreeing, in_large_pieces
from img3d_kernels.stereo.contrast import contrast_of
from img3d_kernels.stereo.filling import filled
from img3d_kernels.stereo.patch_match import patch_match, photometric_costs, refined
from img3d_kernels.stereo.silhouettes import hull_maps
from img3d_kernels.stereo.views import DepthMap, StereoView, enlarged

Report = Callable[[str, int, int], None]
"""Called with the stage, the number of views that are done, and the number of all views."""
Keep = Callable[[int, int, Callable[[], DepthMap]], DepthMap]
"""Called with the pass (0: stereo alone; from 1 on: geometric passes), the index of a view, and a function that
computes its map. Returns the map, computed or from an earlier attempt."""
LARGE = 500
"""Shorter side in pixels from which all passes but the last compare a view at half its size, in a quarter of the time:
the last pass adds the detail."""
NEIGHBOURHOOD, MIN_CONTRAST = 5, 0.8
"""A pixel without any texture in a square of so many pixels, up to this deviation of grey values, gets no depth: only
pixels far from it speak for one, such as those of an object's outline for the wall behind it."""

CLOSELY = 0.003
"""Maximum relative difference of depths at which one source is enough to confirm a depth: what stands at the edge of
the photographed area is seen by two photos only."""
MAX_COST = 0.4
"""Maximum cost of such a depth."""
PATCH, MIN_PATCH_CONTRAST = 11, 4.0
"""Minimum standard deviation of the grey values in a square of so many pixels around it: noise matches by chance."""


@dataclass(frozen=True)
class StereoOptions:
    """Trades time for quality."""

    geometric_passes: int = 2
    """Number of times that all depth maps are refined with each other's."""
    min_agreeing: int = 2
    """Minimum number of sources that confirm a depth; all, for a view that has fewer sources."""


def stereo_depth_maps(
    views: Sequence[StereoView],
    sources: Sequence[Sequence[int]],
    ranges: Sequence[tuple[float, float] | None],
    options: StereoOptions,
    report: Report = lambda stage, done, total: None,
    keep: Keep = lambda number, view, make: make(),
) -> list[DepthMap]:
    """Depth and normals of every view, where at least `min_agreeing` sources confirm them.

    Args:
        views: The C views. If they have outlines, their visual hull tells depths where there is no texture.
        sources: For each view, the indices of the views that it is compared with.
        ranges: For each view, the nearest and the farthest depth to search; None if they are unknown: its map is empty.
        options: Trade time for quality.
        report: Shows the progress.
        keep: Stores each view's map of each pass, so that an interrupted run can continue.
    """
    usable = [i for i in range(len(views)) if ranges[i] is not None and len(sources[i]) > 0]
    maps: dict[int, DepthMap] = {}
    passes = options.geometric_passes
    compared = [view_in_pass(view, 0, passes) for view in views]
    for done, i in enumerate(usable):
        report("Stereo", done, len(usable))
        maps[i] = keep(0, i, partial(_first, compared, sources[i], ranges[i], i))
    for number in range(1, passes + 1):
        before, compared = compared, [view_in_pass(view, number, passes) for view in views]
        previous = {
            i: found if compared[i].size == before[i].size else enlarged(found, before[i], compared[i])
            for i, found in maps.items()
        }
        for done, i in enumerate(usable):
            report("Refining", (number - 1) * len(usable) + done, passes * len(usable))
            maps[i] = keep(number, i, partial(_again, compared, sources[i], ranges[i], i, number, previous))
    complete = _filled(views, sources, ranges, maps)
    maps = complete or {
        i: found.where(contrast_of(views[i], NEIGHBOURHOOD) >= MIN_CONTRAST) for i, found in maps.items()
    }
    for i, agreed in _agreed(views, sources, maps, options.min_agreeing).items():
        maps[i] = agreed
    return [maps[i] if i in maps else DepthMap.empty(*view.size) for i, view in enumerate(views)]


def view_in_pass(view: StereoView, number: int, passes: int) -> StereoView:
    """A view at the size at which a pass compares it, which is also the size of the pass's map.

    Args:
        view: The view.
        number: The pass.
        passes: The last pass.
    """
    height, width = view.size
    return view if number == passes or min(height, width) < LARGE else view.resized(height // 2, width // 2)


def _first(
    views: Sequence[StereoView],
    sources: Sequence[int],
    span: tuple[float, float] | None,
    i: int,
) -> DepthMap:
    """Pass 0: the map of view i from the pictures alone."""
    assert span is not None
    others = [views[j] for j in sources]
    return patch_match(views[i], others, *span, seed=i)


def _again(
    views: Sequence[StereoView],
    sources: Sequence[int],
    span: tuple[float, float] | None,
    i: int,
    number: int,
    previous: dict[int, DepthMap],
) -> DepthMap:
    """Pass `number`: the map of view i, refined with the sources' maps of the previous pass."""
    assert span is not None
    known = [j for j in sources if j in previous]
    if not known:
        return previous[i]
    others, depths = [views[j] for j in known], [previous[j].depth for j in known]
    seed = i + len(views) * number
    return refined(views[i], others, *span, previous[i], depths, seed=seed)


def _filled(
    views: Sequence[StereoView],
    sources: Sequence[Sequence[int]],
    ranges: Sequence[tuple[float, float] | None],
    maps: dict[int, DepthMap],
) -> dict[int, DepthMap]:
    """The maps of an object on a transparent background, also where it has no texture; empty for other scenes."""
    hulls = hull_maps(views, ranges)
    if hulls is None:
        return {}
    complete = {}
    for i, found in maps.items():
        span = ranges[i]
        assert span is not None
        others = [views[j] for j in sources[i]]
        costs = [photometric_costs(views[i], others, *span, each) for each in (found, hulls[i])]
        complete[i] = filled(views[i], found, costs[0], hulls[i], costs[1])
    return complete


def _agreed(
    views: Sequence[StereoView], sources: Sequence[Sequence[int]], maps: dict[int, DepthMap], at_least: int
) -> dict[int, DepthMap]:
    """The maps without speckles, and without depths that fewer than `at_least` sources confirm."""
    found = {}
    for i, each in maps.items():
        known = [j for j in sources[i] if j in maps]
        needed = min(at_least, len(known))
        others, depths = [views[j] for j in known], [maps[j].depth for j in known]
        agreeing, closely = count_agreeing(views[i], each.depth, others, depths, (MAX_RELATIVE_DIFFERENCE, CLOSELY))
        by_two = (closely > 0) & (each.cost <= MAX_COST) & (contrast_of(views[i], PATCH) >= MIN_PATCH_CONTRAST)
        agreed = each.where((agreeing >= needed) & (agreeing > 0) | by_two)
        found[i] = agreed.where(in_large_pieces(views[i], agreed.depth))
    return found
