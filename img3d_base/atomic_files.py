# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes, and the cache folders for results that are expensive to compute."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from img3d_base.errors import InputError
from img3d_base.foreign_files import read_bytes

OWN = "made_here"
"""Name of the marker file that `mark_as_own` writes."""
MAX_MARK_BYTES = 100


@contextmanager
def write_atomically(path: Path) -> Generator[Path, None, None]:
    """Yields a temporary path beside `path`, to write a file or a folder to.

    On success it is renamed to `path` (a folder only if `path` is absent or an empty folder); on failure it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads that write the same file at a time have a temporary path each; the last one's content stays.
    temporary = path.with_name(f"{path.name}.{threading.get_native_id()}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def remove_left_behind(folder: Path, pattern: str) -> None:
    """Removes temporary folders of `write_atomically` whose process was killed.

    Args:
        folder: The folder in which they are.
        pattern: The glob pattern of their names, which end in `.tmp`.
    """
    for temporary in folder.glob(pattern):
        process = temporary.suffixes[-2].removeprefix(".") if len(temporary.suffixes) > 1 else ""
        if not process.isdigit() or not _is_running(int(process)):
            shutil.rmtree(temporary, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it belongs to another user
    return True


def save_arrays(path: Path, **arrays: npt.ArrayLike) -> None:
    """Writes a .npz file atomically.

    Raises:
        OSError: the file cannot be written.
    """
    content = io.BytesIO()  # on a full disk, NumPy's own file object raises again when it is collected
    np.savez(content, **arrays)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def remove(path: Path) -> None:
    """Removes a file, a folder with its contents, or a link (but not its target). An absent path is no error.

    Raises:
        OSError: the path cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def mark_as_own(folder: Path) -> None:
    """Marks a folder of unfinished work as created on this machine, for `is_own`."""
    (folder / OWN).write_text(_identity(folder))


def is_own(folder: Path) -> bool:
    """Whether `mark_as_own` marked this folder on this disk. Unfinished work from elsewhere must not be resumed.

    A folder that came with somebody else's data may hold files made to do harm (a database, links to write through).
    The marker holds the folder's device and inode numbers, which whoever packed it elsewhere cannot know.
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
    """Raises if the disk is full: for libraries that do not say why a write failed.

    Raises:
        OSError: less than 1 MiB is free on the disk that holds `folder`.
    """
    if shutil.disk_usage(folder).free < 1 << 20:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def user_cache() -> Path:
    """img3d's folder in the user's cache directory (XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "img3d"


def cache_folders(folder: Path, cache_dir: Path | None) -> list[Path]:
    """The candidate cache folders of a data set, the preferred one first.

    `cache_dir` if it is given; else `.img3d` in the data set and the user's cache, in reverse order if the data set is
    read-only.
    """
    if cache_dir is not None:
        return [cache_dir]
    places = [folder / ".img3d", user_cache()]
    if not folder.stat().st_mode & 0o222:
        places.reverse()  # root could write to it all the same; the permission bits say not to
    return places


def writable_cache(folder: Path, cache_dir: Path | None) -> Path:
    """The first of `cache_folders` that can be written to; it is created if necessary.

    Raises:
        InputError: none of them can be written to.
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
