# SPDX-License-Identifier: Apache-2.0
"""Rejected command lines, explained in one line; tyro's own explanations are boxes of up to 115 lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from img3d_base.console import print_line

USAGE = 2
"""Exit status for a command line that is not understood."""


def line_about(event: Any) -> str | None:
    """The line that explains one of tyro's parse errors; None for errors that are left to tyro to explain.

    Errors are told apart by the name of their class: the classes are private (tyro/_errors.py, since tyro 1.0).
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
            return f"{_name(event.argument)} is {event.value!r}, but must be one of {', '.join(event.choices)}"
        case "BadValue":
            return f"{_name(event.argument)} needs a value"
        case "InstantiationFailure" if event.argument is not None:
            wanted = str(event.argument.lowered.metavar).replace("{None}|", "")
            return f"{_name(event.argument)} is {_value_of(event.argument)!r}, but must be {wanted}"
        case _:
            return None


@contextlib.contextmanager
def wrong_options_in_one_line(explain: Callable[[Any], str | None] = line_about) -> Generator[None, None, None]:
    """While active, a command line that tyro rejects ends the program with one line and status 2.

    Args:
        explain: Returns the line for one of tyro's parse errors, or None to leave the explanation to tyro.
    """
    try:
        from tyro._errors import on_parse_error
    except ImportError:  # an older tyro, whose own explanations are kept
        yield
        return

    def report(event: Any) -> None:
        if line := explain(event):
            _end(line)

    with on_parse_error(report):
        yield


def _end(line: str) -> NoReturn:
    print_line(f"Error: {line}", "bold red")
    raise SystemExit(USAGE)


def _program(prog: str, unknown: Sequence[str]) -> str:
    """The program's name without its folder, and the subcommand.

    tyro omits the subcommand if that is what it rejects; then it is taken from the command line.
    """
    path, *subcommands = prog.split(" ")
    given = [word for word in sys.argv[1:2] if not word.startswith("-") and word not in unknown]
    return " ".join([Path(path).name, *(subcommands or given)])


def _name(argument: Any) -> str:
    return argument.lowered.metavar if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _value_of(argument: Any) -> str:
    """The value on the command line of an argument; "" if there is none."""
    words = iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name.startswith("-") and name.replace("_", "-") in argument.lowered.name_or_flags:
            return value if equals else next(words, "")
    return ""
