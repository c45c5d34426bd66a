# SPDX-License-Identifier: Apache-2.0
"""Errors of writing views of an object to the cache."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from img3d_base.errors import InputError


@contextmanager
def writing_views(folder: Path) -> Generator[None]:
    """Context around writing `folder`, whose data parser has the option --cache-dir.

    Raises:
        InputError: Instead of an OSError: the views cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the views cannot be kept in {folder.parent}: {error.strerror or error}; free some space there, or "
            "give another folder with --cache-dir"
        ) from error
