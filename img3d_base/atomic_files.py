# SPDX-License-Identifier: Apache-2.0
"""Files that others see whole or not at all, and the folders where img3d keeps what took a while to make."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_base.errors import InputError
from img3d_base.foreign_files import read_bytes

OWN = "made_here"
"""The file that marks a folder."""
MAX_MARK_BYTES = 100


@contextmanager
def write_atomically(path: Path) -> Generator[Path, None, None]:
    """A temporary name beside `path` to write a file or a folder to.

    On success it becomes `path` (a folder only where there is none, or an empty one); on failure it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def save_arrays(path: Path, **arrays: npt.ArrayLike) -> None:
    """Writes a .npz file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()  # NumPy's own file, where the disk is full, complains once more when it is forgotten
    np.savez(content, **arrays)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def remove(path: Path) -> None:
    """Removes a file, a folder with all that is in it, or a link, but not what that leads to; nothing if it is absent.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark_as_own(folder: Path) -> None:
    """Marks a folder of unfinished work as made here, for `is_own`."""
    (folder / OWN).write_text(_identity(folder))


def is_own(folder: Path) -> bool:
    """Whether a folder was marked here, on this disk: work that came with somebody else's files is not gone on with.

    What is in it (a database, links to write through) may have been made to do harm. The number that the disk gives a
    folder cannot be known to who packed it elsewhere.
    """
    try:
        mark = folder / OWN
        return not folder.is_symlink() and read_bytes(mark, MAX_MARK_BYTES).decode() == _identity(folder)
    except (InputError, OSError, UnicodeDecodeError):
        return False


def _identity(folder: Path) -> str:
    status = folder.stat()
    return f"{status.st_dev} {status.st_ino}"


def check_disk(folder: Path) -> None:
    """For programs that do not say why they cannot write.

    Raises:
        OSError: the disk that holds `folder` is full.
    """
    if shutil.disk_usage(folder).free < 1 << 20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def user_cache() -> Path:
    """img3d's folder among the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "img3d"


def cache_folders(folder: Path, cache_dir: Path | None) -> list[Path]:
    """Where to keep what belongs to a data set: where the user says, else beside it or, if that is read-only, in the
    user's cache; the better place first."""
    if cache_dir is not None:
        return [cache_dir]
    places = [folder / ".img3d", user_cache()]
    if not folder.stat().st_mode & 0o222:
        places.reverse()  # marked read-only, which the system does not hold root to
    return places


def writable_cache(folder: Path, cache_dir: Path | None) -> Path:
    """The first of these places that can be written; it is made.

    Raises:
        InputError: none can.
    """
    places = cache_folders(folder, cache_dir)
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            probe = place / f"{os.getpid()}.tmp"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        return place
    raise InputError(
        f"{' and '.join(map(str, places))} cannot be written; --cache-dir DIR says where to keep what is made of "
        "the data"
    )
