# SPDX-License-Identifier: Apache-2.0
"""Writes PlayCanvas's streamed SOG: a pyramid of levels of detail in pieces that a web viewer loads on demand.

Format, version 1: https://developer.playcanvas.com/user-manual/gaussian-splatting/formats/streamed-sog/. A binary
tree divides space; for each leaf, a viewer chooses one level. The coarsest level is in one small file, which shows
the whole scene after a few hundred kilobytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from img3d_assets.gaussians import Gaussians
from img3d_assets.splat_editing.merging import covariances, merged
from img3d_assets.splat_editing.selection import without_outliers
from img3d_assets.splat_formats.morton import morton_order
from img3d_assets.splat_formats.sog import META, sog_files
from img3d_base.output_files import written_whole
from img3d_base.progress import with_progress

INDEX = "lod-meta.json"
COARSEST, SHRINK = 16_384, 4
"""Maximum number of Gaussians in the coarsest level, and the ratio of numbers between levels."""
LEAF, CHUNK = 32_768, 131_072
"""Maximum number of Gaussians of the finest level in a leaf, and approximate number of Gaussians in a file."""
COARSE_PALETTE = 1024
"""Palette entries for harmonics in files of all levels but the finest."""


@dataclass(eq=False)
class Chunk:
    """The Gaussians of one file, all of one level."""

    level: int
    runs: list[Int64[np.ndarray, "_"]] = field(default_factory=list)
    """For each leaf, the indices of its Gaussians in the level."""

    def __len__(self) -> int:
        return sum(map(len, self.runs))


def levels_of(splats: Gaussians) -> list[Gaussians]:
    """The levels of detail: all Gaussians, a quarter as many, and so on down to `COARSEST`."""
    sizes = []
    while (sizes[-1] if sizes else len(splats)) > COARSEST:
        sizes.append(max(COARSEST, (sizes[-1] if sizes else len(splats)) // SHRINK))
    levels = [splats]
    for size in with_progress(sizes, "Making levels of detail", len(sizes)):
        levels.append(merged(levels[-1], size))
    return levels


def write_streamed_sog(splats: Gaussians, folder: Path) -> list[Gaussians]:
    """Writes the folder, whole or not at all.

    Args:
        splats: At least one Gaussian, all finite, in the axes of 3DGS.
        folder: The output folder; it must not exist.

    Returns:
        The levels, the finest one first.

    Raises:
        InputError: The folder cannot be written.
    """
    levels = levels_of(without_outliers(splats))
    chunks: list[Chunk] = []
    tree = _node(levels, [np.arange(len(level)) for level in levels], chunks)
    names = [f"{chunk.level}_{sum(each.level == chunk.level for each in chunks[:i])}" for i, chunk in enumerate(chunks)]
    index = {
        "version": 1,
        "asset": {"generator": "img3d"},
        "count": sum(map(len, levels)),
        "counts": [len(level) for level in levels],
        "lodLevels": len(levels),
        "filenames": [f"{name}/{META}" for name in names],
        "tree": tree,
    }
    with written_whole(folder) as temporary:
        temporary.mkdir()
        (temporary / INDEX).write_text(json.dumps(index))
        work = list(zip(names, chunks, strict=True))
        for name, chunk in with_progress(work, "Writing files", len(work)):
            (temporary / name).mkdir()
            part = levels[chunk.level][np.concatenate(chunk.runs)]
            palette = COARSE_PALETTE if chunk.level else None
            for file, contents in sog_files(part, palette).items():
                (temporary / name / file).write_bytes(contents)
    return levels


def _node(levels: list[Gaussians], members: list[Int64[np.ndarray, "_"]], chunks: list[Chunk]) -> dict[str, Any]:
    """Builds the node of the tree for these members of each level, and appends the Gaussians of leaves to chunks."""
    finest = levels[0].means[members[0]]
    axis = int(np.ptp(finest, axis=0).argmax()) if len(finest) else 0
    middle = float(np.median(finest[:, axis])) if len(finest) else 0.0
    below = [level.means[own, axis] < middle for level, own in zip(levels, members, strict=True)]
    if len(finest) > LEAF and below[0].any():
        children = [
            _node(levels, [own[side == below_] for own, side in zip(members, below, strict=True)], chunks)
            for below_ in (True, False)
        ]
        low = np.minimum(*(child["bound"]["min"] for child in children))
        high = np.maximum(*(child["bound"]["max"] for child in children))
        return {"bound": _bound(low, high), "children": children}
    lods, lows, highs = {}, [], []
    for i, (level, own) in enumerate(zip(levels, members, strict=True)):
        if len(own) == 0:
            continue
        own = own[morton_order(level.means[own])]
        chunk = next((chunk for chunk in reversed(chunks) if chunk.level == i), None)
        if chunk is None or len(chunk) + len(own) > CHUNK:
            chunk = Chunk(i)
            chunks.append(chunk)
        lods[str(i)] = {"file": chunks.index(chunk), "offset": len(chunk), "count": len(own)}
        chunk.runs.append(own)
        part = level[own]
        reach = np.sqrt(np.diagonal(covariances(part), axis1=1, axis2=2))
        lows.append((part.means - reach).min(axis=0))
        highs.append((part.means + reach).max(axis=0))
    return {"bound": _bound(np.min(lows, axis=0), np.max(highs, axis=0)), "lods": lods}


def _bound(low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> dict[str, list[float]]:
    return {end: [float(f"{value:.7g}") for value in values] for end, values in (("min", low), ("max", high))}
