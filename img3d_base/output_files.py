# SPDX-License-Identifier: Apache-2.0
"""Files that a user asks for: refused before the work where something is already, written whole or not at all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError


def check_free(path: Path, force: bool) -> None:
    """Raises InputError where something is that may not be replaced."""
    if path.is_dir() or (path.exists() and not force):
        raise InputError(f"{path} is there already: choose another name{'' if path.is_dir() else ', or give --force'}.")


def check_output(path: Path, endings: Sequence[str], command: str, force: bool) -> None:
    """Refuses a file before the work that it is for.

    Args:
        path: What is to be written.
        endings: Those of the names of files that can be written, in lower case.
        command: What writes them, for the message.
        force: Whether a file that is there may be replaced.

    Raises:
        InputError: The ending is another one, or something is there.
    """
    if not path.name.lower().endswith(tuple(endings)):
        raise InputError(f"{path} has an ending that {command} does not write: it writes {', '.join(endings)}.")
    check_free(path, force)


@contextmanager
def written_whole(path: Path) -> Generator[Path, None, None]:
    """A temporary name to write to, that becomes `path`, whose folder is made.

    Raises:
        InputError: It cannot be written.
    """
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
