# SPDX-License-Identifier: Apache-2.0
"""Edits of a scene's splats: cleaning, and cropping to a box."""

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
"""Fraction of the Gaussians that lie between the bounds along each axis. A few outliers are far away."""


@dataclass(frozen=True)
class Box:
    """A box in the axes of the page: x right, y up, z towards the viewer."""

    low: Point
    high: Point

    def in_axes(self, up: UpAxis) -> tuple[Point, Point]:
        """Its lowest and highest corner in the axes of a file in which `up` points up."""
        from img3d_assets.axes import TO_Y_UP

        corners: list[list[float]] = [(TO_Y_UP[up].T @ corner).tolist() for corner in (self.low, self.high)]
        low, high = (tuple(choose(values) for values in zip(*corners, strict=True)) for choose in (min, max))
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])


@dataclass(frozen=True)
class Bounds:
    """The box that holds most of a scene's splats."""

    low: Point
    """Lowest corner, in the axes of the page."""
    high: Point
    """Highest corner."""
    up: UpAxis
    """The axis that points up in the file."""

    def box(self, fractions: list[tuple[float, float]]) -> Box:
        """A part of the bounds.

        Args:
            fractions: For each axis where the part begins and ends, in [0, 1]. At 0 and 1 it extends beyond the bounds
                without limit.
        """
        far = 1e6 * max(abs(value) for value in (*self.low, *self.high, 1.0))
        low: list[float] = []
        high: list[float] = []
        for start, end, (begin, stop) in zip(self.low, self.high, fractions, strict=True):
            low.append(start + begin * (end - start) if begin > 0 else -far)
            high.append(start + stop * (end - start) if stop < 1 else far)
        return Box((low[0], low[1], low[2]), (high[0], high[1], high[2]))


@dataclass(frozen=True)
class Edit:
    """What to do with the original splats. An edit that does nothing restores them."""

    clean: bool
    """Whether to remove floaters and needles."""
    box: Box | None
    """The part to keep; None: everything."""

    @property
    def changes(self) -> bool:
        """Whether the edit does anything."""
        return self.clean or self.box is not None

    def written(self) -> str:
        """The edit as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> Edit:
        """Parses what `written` returned."""
        values = json.loads(text)
        box = values["box"] and Box(tuple(values["box"]["low"]), tuple(values["box"]["high"]))
        return Edit(values["clean"], box)


def edit_of_request(request: Any, bounds: Bounds) -> Edit:
    """The edit that the page asks for.

    Args:
        request: `{"clean": bool, "keep": [[from, to], …]}`, with fractions of the bounds along x, y and z.
        bounds: The bounds of the splats.

    Raises:
        InputError: The request has another form, or keeps nothing.
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
    """The bounds of the splats in a file. They are cached in the folder, because reading a large file takes seconds.

    Raises:
        InputError: The file cannot be read, or holds no visible Gaussian.
    """
    kept = folder / "bounds.json"
    status = path.stat() if path.is_file() else None
    key = None if status is None else [path.name, status.st_size, status.st_mtime]
    if kept.is_file():
        content = parse_json(kept.read_bytes(), str(kept))
        if content["of"] == key:
            return Bounds(tuple(content["low"]), tuple(content["high"]), content["up"])
    from img3d_assets.splat_editing.bounds import visible_bounds
    from img3d_assets.splat_files import read_splats
    from img3d_base.output_files import written_whole

    splats, up = read_splats(path)
    found = visible_bounds(splats, up, FRACTION_INSIDE)
    if found is None:
        raise InputError(f"{path.name} holds no visible Gaussian")
    low, high = found
    with written_whole(kept) as temporary:
        temporary.write_text(json.dumps({"of": key, "low": low, "high": high, "up": up}))
    return Bounds(low, high, up)
