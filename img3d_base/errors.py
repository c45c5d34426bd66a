# SPDX-License-Identifier: Apache-2.0
"""Reporting bad input: one line that says what is wrong and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from img3d_base.console import print_line
from img3d_base.signals import sigterm_raises, status_of
from img3d_base.wrong_options import wrong_options_in_one_line

EXTRAS = {
    **dict.fromkeys(
        ("av", "imageio_ffmpeg", "matplotlib", "nerfstudio", "open3d", "pycolmap", "pymeshlab", "tensorboard", "viser"),
        "nerfstudio",
    ),
    "httpx": "remote",
}
"""For packages that only some commands need, the extra of img3d that brings them."""


class InputError(Exception):
    """Bad input. The message is one line for the user; commands print it without a traceback."""


@contextmanager
def exits_with_one_line(interrupted: str) -> Generator[None, None, None]:
    """Wraps a command so that it ends with one line instead of a traceback.

    Exit status 1 after an InputError, or if a package of an extra is not installed; 2 after a wrong option, 130 after
    Ctrl-C, and 143 after SIGTERM.

    Args:
        interrupted: The line printed after Ctrl-C and SIGTERM.
    """
    try:
        with sigterm_raises(), wrong_options_in_one_line():
            yield
    except InputError as error:
        print_line(f"Error: {error}", "bold red")
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print_line(f"Error: this needs more of img3d than is installed: pip install 'img3d[{extra}]'", "bold red")
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        print_line(interrupted)
        sys.exit(status_of(interrupt))


def warn(message: str) -> None:
    """Prints one warning line."""
    print_line(f"Warning: {message}", "bold yellow")


def some_names(names: Sequence[str], at_most: int = 3) -> str:
    """The first few of `names`, separated by commas, so that a message stays one line however many there are."""
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun, in the singular or plural: "1 photo", "1,200 photos".

    Args:
        number: The count.
        noun: The noun in the singular.
        plural: The noun in the plural; by default the singular with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
