# SPDX-License-Identifier: Apache-2.0
"""Output files of commands: checked before the work begins, and written atomically."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError


def check_free(path: Path, force: bool) -> None:
    """Refuses a path where something exists that may not be replaced.

    Raises:
        InputError: A folder is there, or a file without `force`.
    """
    if path.is_dir() or (path.exists() and not force):
        raise InputError(f"{path} already exists: choose another name{'' if path.is_dir() else ', or give --force'}.")


def check_output(path: Path, endings: Sequence[str], kind: str, force: bool) -> None:
    """Refuses an output file before the work begins whose result it would hold.

    Args:
        path: The output file.
        endings: The supported endings of file names, in lower case.
        kind: What the file holds, for the message, such as "a mesh".
        force: Whether an existing file may be replaced.

    Raises:
        InputError: The ending is not supported, or the file already exists.
    """
    if not path.name.lower().endswith(tuple(endings)):
        raise InputError(f"Cannot write {kind} to {path}: the file name has to end in one of {', '.join(endings)}.")
    check_free(path, force)


@contextmanager
def written_whole(path: Path) -> Generator[Path, None, None]:
    """Yields a temporary path to write to, which is renamed to `path` on success; missing folders are created.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        with write_atomically(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
