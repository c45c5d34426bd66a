# SPDX-License-Identifier: Apache-2.0
"""Locks that keep processes from using the same files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from img3d_base.errors import InputError


@contextmanager
def locked(path: Path, message: str) -> Generator[None, None, None]:
    """Context in which this process holds a lock.

    Args:
        path: The lock's file.
        message: The error's message if another process holds the lock.

    Raises:
        InputError: Another process holds the lock.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(FileLock(path, timeout=0))
        except Timeout:
            raise InputError(message) from None
        yield
