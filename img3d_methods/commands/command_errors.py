# SPDX-License-Identifier: Apache-2.0
"""One line for what ends one of Nerfstudio's commands although its user could have prevented it."""

from __future__ import annotations

import errno
import os
import stat
import traceback
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a disk without room; they come without a file's name."""
HINT = "--load-config takes the config.yml that ns-train wrote"


def line_about(error: BaseException, load_config: str | None) -> str | None:
    """The line to print instead of a traceback.

    Args:
        error: What nothing has caught.
        load_config: The value of --load-config, if it was given.

    Returns:
        None for what only a traceback explains.
    """
    from img3d_base.errors import InputError
    from img3d_methods.commands.run_errors import why_not_loaded

    if isinstance(error, InputError):
        return f"Error: {error}"
    if load_config is not None and (reason := why_not_loaded(error, load_config)):
        return f"Error: {reason}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"Error: {os.fsdecode(error.filename)} cannot be read or written: {error.strerror}"
    if isinstance(error, OSError) and error.errno in FULL:
        return f"Error: a file could not be written: {error.strerror}"
    if isinstance(error, AssertionError) and (check := _check_of_a_script(error)):
        return f"Error: an option or a file is not what this command takes: it checks `{check}`"
    return None


def why_no_config(path: Path) -> str | None:
    """What to say of a --load-config that is no file that can be read; None if it is one."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            inside = path / "config.yml"
            return f"{path} is a folder: {f'did you mean {inside}?' if inside.is_file() else HINT}"
        if not stat.S_ISREG(mode):
            return f"{path} is a pipe, socket or device: {HINT}"
        path.open("rb").close()
    except FileNotFoundError:
        return f"there is no file {path}: {HINT}"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def _check_of_a_script(error: AssertionError) -> str | None:
    """The condition that one of Nerfstudio's scripts asserts of its options."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if Path(frame.filename).parts[-3:-1] != ("nerfstudio", "scripts") or not frame.line:
        return None
    return str(error) or frame.line.removeprefix("assert ")
