# SPDX-License-Identifier: Apache-2.0
"""How bad input is reported: one line that says what is wrong and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from img3d_base.console import CONSOLE
from img3d_base.signals import sigterm_raises, status_of
from img3d_base.wrong_options import wrong_options_in_one_line


class InputError(Exception):
    """Bad input; the message is one line for the user, who did nothing that a traceback would explain."""


@contextmanager
def exits_with_one_line(interrupted: str) -> Generator[None, None, None]:
    """What goes around a command: bad input ends it with one line and status 1, a wrong option with 2; Ctrl-C with
    `interrupted` and 130, SIGTERM with the same and 143."""
    try:
        with sigterm_raises(), wrong_options_in_one_line():
            yield
    except InputError as error:
        CONSOLE.print(f"Error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        CONSOLE.print(interrupted, markup=False, highlight=False, soft_wrap=True)
        sys.exit(status_of(interrupt))


def warn(message: str) -> None:
    """Prints one warning line; nothing in it (such as brackets in a file name) is taken for markup."""
    CONSOLE.print(f"Warning: {message}", style="bold yellow", markup=False, highlight=False, soft_wrap=True)


def some_names(names: Sequence[str], at_most: int = 3) -> str:
    """The first few of `names`, for a message that stays one line however many there are."""
    return ", ".join(names[:at_most]) + (", …" if len(names) > at_most else "")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things in words that agree with it: "1 photo", "1,200 photos".

    Args:
        number: how many.
        noun: what one of them is called.
        plural: what several are called; default: the noun and an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
