# SPDX-License-Identifier: Apache-2.0
"""Settings of services: the fields of their requests that users may set, checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from img3d_base.errors import InputError


@dataclass(frozen=True)
class Setting:
    """A field of a service's request."""

    kind: type
    """bool, int, float, str, or list for numbers separated by commas."""
    about: str
    """What it means, in a few words."""
    choices: tuple[str, ...] = ()
    """The values that it takes; empty: any within the limits."""
    low: float | None = None
    high: float | None = None
    """Limits of a number; `high` also limits the length of a text."""
    only: tuple[str, ...] = ()
    """The kinds of orders that have it (`Order.kind`); empty: all."""

    @property
    def values(self) -> str:
        """The values that it takes, in words."""
        if self.choices:
            return "|".join(self.choices)
        if self.kind is bool:
            return "true|false"
        if self.kind is str:
            return "TEXT" if self.high is None else f"TEXT of at most {self.high:g} characters"
        if self.kind is list:
            return "NUMBER,NUMBER,NUMBER"
        return "NUMBER" if self.low is None else f"{self.low:g}..{self.high:g}"

    def parsed(self, name: str, text: str) -> Any:
        """Parses a value.

        Args:
            name: The setting's name, for messages.
            text: The value as text.

        Raises:
            InputError: The service does not take this value.
        """
        value = self._value(text)
        if value is None or not self._fits(value):
            raise InputError(f"{name} is {text!r}: it has to be {self.values}")
        return value

    def _value(self, text: str) -> Any:
        try:
            if self.kind is bool:
                return {"true": True, "false": False}.get(text.lower())
            if self.kind is list:
                return [float(part) for part in text.split(",")]
            return self.kind(text)
        except ValueError:
            return None

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return str(value) in self.choices
        if self.kind is str:
            return self.high is None or len(value) <= self.high
        if self.kind is list:
            return len(value) == 3
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def parsed_settings(texts: Sequence[str], known: Mapping[str, Setting], title: str) -> dict[str, Any]:
    """Parses settings.

    Args:
        texts: `name=value` each.
        known: The service's settings.
        title: The service's name, for messages.

    Raises:
        InputError: There is no such setting, or it does not take the value.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise InputError(f"{title} has no setting {text!r}; it has NAME=VALUE with {', '.join(known)}")
        settings[name] = known[name].parsed(name, value)
    return settings


def form_value(value: Any) -> str:
    """A value as a field of a form: a text as it is, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
