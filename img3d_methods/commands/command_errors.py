# SPDX-License-Identifier: Apache-2.0
"""Error lines for exceptions that end one of Nerfstudio's commands and that the user can do something about."""

from __future__ import annotations

import errno
import os
import stat
import traceback
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""OSErrors of a full disk; they carry no file name."""
HINT = "--load-config takes the config.yml that ns-train wrote"


def line_about(error: BaseException, load_config: str | None) -> str | None:
    """The line to print instead of a traceback.

    Args:
        error: The uncaught exception.
        load_config: The value of --load-config, if given.

    Returns:
        The line, or None if only a traceback explains the error.
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
    """Why a --load-config is not a readable file; None if it is one."""
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
    """The condition about its options that one of Nerfstudio's scripts asserts; None if the error came from
    elsewhere."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if Path(frame.filename).parts[-3:-1] != ("nerfstudio", "scripts") or not frame.line:
        return None
    return str(error) or frame.line.removeprefix("assert ")
