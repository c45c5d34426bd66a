# SPDX-License-Identifier: Apache-2.0
"""Edits of a scene's splats: cleaning, and cutting them to a box."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img3d_base.errors import InputError
from img3d_base.foreign_files import parse_json

if TYPE_CHECKING:
    from img3d_assets.axes import UpAxis

Point = tuple[float, float, float]
FRACTION_INSIDE = 0.98
"""Fraction of the Gaussians between the bounds along each axis: a few are far outside."""


@dataclass(frozen=True)
class Box:
    """A box in the axes of the page: x to the right, y up, z to the viewer."""

    low: Point
    high: Point

    def in_axes(self, up: UpAxis) -> tuple[Point, Point]:
        """Its lowest and highest corner in axes in which `up` is up."""
        from img3d_assets.axes import TO_Y_UP

        corners = [tuple(float(value) for value in TO_Y_UP[up].T @ corner) for corner in (self.low, self.high)]
        low, high = (tuple(choose(values) for values in zip(*corners, strict=True)) for choose in (min, max))
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])


@dataclass(frozen=True)
class Bounds:
    """Where a scene's splats are."""

    low: Point
    """In the axes of the page."""
    high: Point
    up: UpAxis
    """The axis that points up in the file."""

    def box(self, fractions: list[tuple[float, float]]) -> Box:
        """A box inside, from the fractions along each axis where it begins and ends. At 0 and 1 it has no end."""
        far = 1e6 * max(abs(value) for value in (*self.low, *self.high, 1.0))
        low: list[float] = []
        high: list[float] = []
        for start, end, (begin, stop) in zip(self.low, self.high, fractions, strict=True):
            low.append(start + begin * (end - start) if begin > 0 else -far)
            high.append(start + stop * (end - start) if stop < 1 else far)
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


@dataclass(frozen=True)
class Edit:
    """What to do with the splats as they were made; nothing restores them."""

    clean: bool
    """Whether to remove floaters and needles."""
    box: Box | None
    """What to keep."""

    @property
    def changes(self) -> bool:
        """Whether anything is done."""
        return self.clean or self.box is not None

    def written(self) -> str:
        """The edit as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Edit:
        """An edit that `written` gave."""
        values = json.loads(text)
        box = values["box"] and Box(tuple(values["box"]["low"]), tuple(values["box"]["high"]))
        return Edit(values["clean"], box)


def edit_of_request(request: Any, bounds: Bounds) -> Edit:
    """An edit from what the page sends: `{"clean": bool, "keep": [[from, to], …]}`, fractions along x, y and z.

    Raises:
        InputError: It is something else.
    """
    try:
        clean = bool(request["clean"])
        keep = [(float(start), float(end)) for start, end in request["keep"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("The edit is incomplete") from error
    if len(keep) != 3 or not all(0 <= start < end <= 1 for start, end in keep):
        raise InputError("Keep something: each side of the box must begin before it ends")
    return Edit(clean, None if all(pair == (0, 1) for pair in keep) else bounds.box(keep))


def bounds_of(path: Path, folder: Path) -> Bounds:
    """Where the splats in a file are; kept in the folder, because reading large files takes seconds.

    Raises:
        InputError: The file cannot be read.
    """
    kept = folder / "bounds.json"
    status = path.stat() if path.is_file() else None
    key = None if status is None else [path.name, status.st_size, status.st_mtime]
    if kept.is_file():
        content = parse_json(kept.read_bytes(), str(kept))
        if content["of"] == key:
            return Bounds(tuple(content["low"]), tuple(content["high"]), content["up"])
    import numpy as np

    from img3d_assets.axes import TO_Y_UP
    from img3d_assets.splat_files import read_splats
    from img3d_base.output_files import written_whole

    splats, up = read_splats(path)
    visible = splats.visible()
    if len(visible) == 0:
        raise InputError(f"{path.name} holds no visible Gaussian")
    means = visible.means @ TO_Y_UP[up].T
    outside = (1 - FRACTION_INSIDE) / 2
    low, high = (np.quantile(means, quantile, axis=0).tolist() for quantile in (outside, 1 - outside))
    with written_whole(kept) as temporary:
        temporary.write_text(json.dumps({"of": key, "low": low, "high": high, "up": up}))
    return Bounds(tuple(low), tuple(high), up)
