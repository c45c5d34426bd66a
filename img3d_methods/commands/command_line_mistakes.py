# SPDX-License-Identifier: Apache-2.0
"""Explains in one sentence what is wrong with an `ns-train` command line that tyro rejected."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

ALIKE = 0.6
"""Minimum similarity (difflib's ratio) for a name to be suggested."""


def about_unknown(
    tokens: Sequence[str],
    arguments: Sequence[str],
    methods: Mapping[str, Any],
    parsers: Mapping[str, DataParserConfig],
    own: Collection[str],
) -> str | None:
    """What to say about words of a command line that tyro did not recognise.

    Args:
        tokens: The unrecognised words, at least one.
        arguments: The whole command line without the program's name.
        methods: The configurations of all methods, by name.
        parsers: The configurations of all data parsers, by name.
        own: The names of our methods, the only ones whose options are explained.

    Returns:
        One sentence, or None if tyro's own message is to be shown.
    """
    first = tokens[0]
    method = next((argument for argument in arguments if argument in methods), None)
    if method is None:
        return None if first.startswith("-") else _about_method(first, methods)
    if method not in own:
        return None
    option = first.partition("=")[0].replace("_", "-")
    if not option.startswith("--"):
        return f"{first} is not preceded by an option: to train on it, write --data {first}"
    config = methods[method]
    known = {f"--{name}" for name in option_names(config)}
    parser = next((argument for argument in arguments if argument in parsers), None)
    if option in known and parser is not None:
        return f"{option} is an option of {method}, and has to be given before {parser}"
    parser_config = config.pipeline.datamanager.dataparser if parser is None else parsers[parser]
    parser_name = parser or next(name for name, other in parsers.items() if type(other) is type(parser_config))
    parser_options = {f"--{name}" for name in option_names(parser_config)}
    if option in parser_options:
        return (
            f"{option} is an option of the data parser {parser_name}, and has to be given after that name, at the end: "
            f"ns-train {method} --data … {parser_name} {option} …"
        )
    meant = _closest(option, known | parser_options)
    suggestion = f"did you mean {meant}?" if meant else f"`ns-train {method} --help` lists all."
    return f"ns-train {method} has no option {option}; {suggestion}"


def option_names(config: Any, prefix: str = "") -> Iterator[str]:
    """The names of the options that tyro makes from a configuration, without those of its data parser, which is a
    subcommand."""
    values = (
        [(field.name, getattr(config, field.name)) for field in fields(config)]
        if is_dataclass(config)
        else list(config.items())
    )
    for name, value in values:
        option = prefix + name.replace("_", "-")
        if name.startswith("_") or isinstance(value, DataParserConfig):
            continue
        if is_dataclass(value) or (isinstance(value, dict) and any(map(is_dataclass, _leaves(value)))):
            yield from option_names(value, f"{option}.")
        else:
            yield option


def _leaves(values: Any) -> Iterator[Any]:
    for value in values.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def _about_method(name: str, methods: Collection[str]) -> str:
    meant = _closest(name, methods)
    return f"there is no method {name}; " + (f"did you mean {meant}?" if meant else "`ns-train --help` lists all.")


def _closest(name: str, names: Collection[str]) -> str | None:
    close = difflib.get_close_matches(name, sorted(names, key=len), n=1, cutoff=ALIKE)
    if close:
        return close[0]
    # People tend to remember the last part of a dotted option.
    return next((other for other in sorted(names, key=len) if other.endswith(f".{name.lstrip('-')}")), None)
