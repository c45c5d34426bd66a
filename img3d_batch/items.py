# SPDX-License-Identifier: Apache-2.0
"""What a batch consists of: folders of photos, videos, images, meshes or texts, one run each."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from img3d_base.errors import InputError
from img3d_base.foreign_files import read_bytes, shown
from img3d_pictures.opening import IMAGE_SUFFIXES
from img3d_studio.uploads import MESH_SUFFIXES, VIDEO_SUFFIXES

MAX_TABLE_BYTES = 64 << 20
COLUMNS = ("name", "data", "text", "method")
METHODS = {"photos": "img3d-splat", "image": "img3d-object", "mesh": "img3d-mesh"}
"""The method for each kind of input if none is given."""


@dataclass(frozen=True)
class Item:
    """One thing to make."""

    name: str
    """The name of its folder."""
    data: Path | None
    """A folder of photos, a video, an image or a mesh; None for a text."""
    text: str
    method: str
    """The method of `ns-train`."""


def read_items(source: Path, method: str) -> list[Item]:
    """The items of a folder (one for each folder, video, image and mesh in it) or of a CSV table.

    Args:
        source: The folder; or a table with the columns name, data, text and method, of which name and one of data and
            text are needed. Paths are relative to the table.
        method: The method for all items that name none; empty: by the kind of input.

    Raises:
        InputError: There are none, or a row is incomplete.
    """
    items = _of_folder(source, method) if source.is_dir() else _of_table(source, method)
    if not items:
        raise InputError(f"{source} holds nothing to make: folders of photos, videos, images or meshes")
    names = [item.name for item in items]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{source} has {shown(twice)} more than once: give each item a name of its own")
    return items


def _of_folder(folder: Path, method: str) -> list[Item]:
    items: list[Item] = []
    for path in sorted(folder.iterdir()):
        kind = None if path.name.startswith(".") else _kind(path)
        if kind is not None:
            items.append(Item(path.name, path.absolute(), "", method or METHODS[kind]))
    return items


def _kind(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in VIDEO_SUFFIXES:
        return "photos"
    if suffix in IMAGE_SUFFIXES:
        return "image"
    return "mesh" if suffix in MESH_SUFFIXES else None


def _of_table(path: Path, method: str) -> list[Item]:
    try:
        text = read_bytes(path, MAX_TABLE_BYTES).decode("utf-8-sig")
        table = csv.DictReader(text.splitlines(), strict=True)
        rows = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV table: {error}") from error
    unknown = [name for name in table.fieldnames or () if name not in COLUMNS]
    if unknown:
        raise InputError(f"{path} has a column {shown(unknown[0])}; there are: {', '.join(COLUMNS)}")
    return [_of_row(row, path, number, method) for number, row in enumerate(rows, 2)]


def _of_row(row: dict[str, str | None], path: Path, number: int, method: str) -> Item:
    name, data, text, own = ((row.get(column) or "").strip() for column in COLUMNS)
    where = f"{path}, line {number}"
    if not re.fullmatch(r"[\w][\w .-]*", name):
        raise InputError(f"{where}: {shown(name)} cannot be the name of a folder")
    if bool(data) == bool(text):
        raise InputError(f"{where}: give either data or a text")
    source = (path.parent / data).absolute() if data else None
    chosen = own or method or (METHODS.get(_kind(source) or "", "") if source is not None else "")
    if not chosen:
        raise InputError(f"{where}: name a method, in its column or with --method")
    return Item(name, source, text, chosen)
