# SPDX-License-Identifier: Apache-2.0
"""Symbolic links stored as text files.

Where symbolic links are not available (Windows), git and unzip write the target's path into a small text file that has
the link's name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

from img3d_base.foreign_files import legible

MAX_BYTES = 512
"""Largest text link, which holds one path. Hardly any picture is as small."""
MAX_LINKS = 16
"""Most links followed for one path: they may form a cycle."""
MAX_DEPTH = 16
"""Most components of a path, from its end, that are tested for being links: paths may be maliciously long."""


def followed(path: Path) -> Path:
    """Resolves the text links in a path, in any of its components. Returns the path itself if there are none.

    Like symbolic links, they may lead to regular files and folders anywhere. A path with a dangling link is returned
    unchanged.
    """
    now = path
    for _ in range(MAX_LINKS):
        link = _first_link(now)
        if link is None:
            return now if now == path or _is_file_or_folder(now) else path
        now = _target(link) / now.relative_to(link)
    return path


def said_of_links(paths: Iterable[Path], what: str) -> list[str]:
    """A line about the text links among the components of some paths; no line if there are none.

    Args:
        paths: The paths as they are listed.
        what: What the files are called, in the plural.
    """
    links = list(dict.fromkeys(_first_link(path) for path in paths if followed(path) != path))
    if not links:
        return []
    first = links[0]
    assert first is not None  # a path that `followed` changes has a link
    where = legible(os.path.normpath(_target(first)))
    links_are = "a link that git or unzip wrote as a text file"
    if len(links) > 1:
        links_are = f"{len(links)} links that git or unzip wrote as text files"
    return [f"{what} are behind {links_are}: {legible(str(first))} is {where}"]


def _first_link(path: Path) -> Path | None:
    """The path or the nearest of its parents that exists, if that is a text link; else None."""
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
    """The target of a text link; the file itself if it does not hold a path."""
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
