# SPDX-License-Identifier: Apache-2.0
"""Checksums of weights of which none was published: recorded when a file is first installed, then always checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from img3d_base.atomic_files import write_atomically
from img3d_base.errors import InputError
from img3d_base.foreign_files import is_json_object, read_json


def read_checksums(path: Path) -> dict[str, str]:
    """The recorded checksums, by the files' paths in the checkpoint's folder; empty if nothing was recorded.

    Raises:
        InputError: The record is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except InputError:
        content = None
    checksums: dict[str, Any] = content if is_json_object(content) else {"": None}
    if not all(isinstance(checksum, str) for checksum in checksums.values()):
        raise InputError(f"{path}, which records checksums of weights, is damaged: remove it, then fetch them again")
    return checksums


def record_checksum(path: Path, file: str, checksum: str) -> None:
    """Adds a file's checksum to the record, unless one is there.

    Raises:
        InputError: The record is damaged.
        OSError: It cannot be written.
    """
    known = read_checksums(path)
    if file not in known:
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps({**known, file: checksum}, indent=1) + "\n")
