# SPDX-License-Identifier: Apache-2.0
"""Links that are text files: where there are no symbolic links (Windows), git and unzip write the path of what a link
leads to into a small file of the link's name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from img3d_base.foreign_files import legible

MAX_BYTES = 512
"""Of such a file, which holds one path. Hardly any picture is as small."""
MAX_LINKS = 16
"""Followed on the way to one path: they may lead in a circle."""
MAX_DEPTH = 16
"""Of what is behind a link: paths may have been made to be long."""


def followed(path: Path) -> Path:
    """The path without the links in text files on the way, the last part included; itself where there are none.

    Links lead to regular files and folders, anywhere, as symbolic links do. What leads nowhere is left as it is.
    """
    now = path
    for _ in range(MAX_LINKS):
        link = _first_link(now)
        if link is None:
            return now if now == path or _is_file_or_folder(now) else path
        now = _target(link) / now.relative_to(link)
    return path


def said_of_links(paths: Iterable[Path], what: str) -> list[str]:
    """A line about the links in text files that lead to some of the paths, if there are any.

    Args:
        paths: as they are listed.
        what: what they are called, in the plural.
    """
    links = list(dict.fromkeys(_first_link(path) for path in paths if followed(path) != path))
    if not links:
        return []
    first = links[0]
    assert first is not None  # it was followed
    where = legible(os.path.normpath(_target(first)))
    links_are = "a link that git or unzip wrote as a text file"
    if len(links) > 1:
        links_are = f"{len(links)} links that git or unzip wrote as text files"
    return [f"{what} are behind {links_are}: {legible(str(first))} is {where}"]


def _first_link(path: Path) -> Path | None:
    """The path itself, or the first of the folders on the way, if it is a small regular file: a link, perhaps."""
    for part in islice(chain((path,), path.parents), MAX_DEPTH):
        try:
            status = os.stat(part)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            return None
        is_small = stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_BYTES
        return part if is_small and _target(part) != part else None
    return None


def _target(link: Path) -> Path:
    """What the path in a text file leads to; the file itself if it holds none."""
    try:
        with link.open("rb") as file:
            text = file.read(MAX_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError):
        return link
    if not text or not text.isprintable():
        return link
    as_it_is = link.parent / text
    return as_it_is if "\\" not in text or os.path.exists(as_it_is) else link.parent / text.replace("\\", "/")


def _is_file_or_folder(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
