# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a command line, in one line; tyro draws boxes of up to 115."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from img3d_base.console import CONSOLE

USAGE = 2
"""Exit status of a program that does not understand its options."""


def line_about(event: Any) -> str | None:
    """One line for one of tyro's events of a rejected command line; None for those that it had better explain.

    Told apart by their names: tyro keeps their classes private (tyro/_errors.py, new in 1.0).
    """
    program = _program(event.prog, getattr(event, "tokens", ()))
    match type(event).__name__:
        case "MissingArgs":
            return f"{program} needs {', '.join(_name(missing.arg) for missing in event.missing_arguments)}"
        case "MissingSubcommand":
            return f"{program} needs one of {', '.join(event.subcommand_spec.parser_from_name)}"
        case "UnrecognizedArgs":
            return f"{program} does not know {event.tokens[0]}: `{program} --help` lists what it knows"
        case "InvalidChoice":
            return f"{_name(event.argument)} is {event.value!r}, and has to be one of {', '.join(event.choices)}"
        case "BadValue":
            return f"{_name(event.argument)} needs a value"
        case "InstantiationFailure" if event.argument is not None:
            wanted = str(event.argument.lowered.metavar).replace("{None}|", "")
            return f"{_name(event.argument)} is {_value_of(event.argument)!r}, and has to be {wanted}"
        case _:
            return None


@contextlib.contextmanager
def wrong_options_in_one_line(explain: Callable[[Any], str | None] = line_about) -> Generator[None, None, None]:
    """While active, a command line that tyro rejects costs one line and status 2.

    Args:
        explain: Gives the line for one of tyro's events, or None to have it explained by tyro.
    """
    try:
        from tyro._errors import on_parse_error
    except ImportError:  # a version of tyro without it: its own words stand
        yield
        return

    def answer(event: Any) -> None:
        if line := explain(event):
            _end(line)

    with on_parse_error(answer):
        yield


def _end(line: str) -> NoReturn:
    CONSOLE.print(f"Error: {line}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(USAGE)


def _program(prog: str, unknown: Sequence[str]) -> str:
    """Its name without the folder, and the subcommand, which tyro leaves out where that is what went wrong."""
    path, *subcommands = prog.split(" ")
    given = [word for word in sys.argv[1:2] if not word.startswith("-") and word not in unknown]
    return " ".join([Path(path).name, *(subcommands or given)])


def _name(argument: Any) -> str:
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _value_of(argument: Any) -> str:
    """What the user gave for it."""
    words = iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("-") and name.replace("_", "-") in argument.lowered.name_or_flags:
            return value if equals else next(words, "")
    return ""
