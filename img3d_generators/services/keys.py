# SPDX-License-Identifier: Apache-2.0
"""API keys: where they come from, and what keeps them out of files, logs and tracebacks."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx

from img3d_base.errors import InputError
from img3d_base.foreign_files import LONGEST_REASON, is_json_list, is_json_object

KEYRING_SERVICE = "img3d"
"""The system's keyring holds the keys under this name; the user name is the service's name."""
HIDDEN = "…"
"""Replaces secrets."""
MAX_TEXT = 2000
"""Longest text of an answer that is kept whole; data URIs are longer."""
SECRET_NAMES = re.compile(r"token|secret|password|authorization|api_?key|subscription_key|signature|credential", re.I)
"""Names of fields whose values are not kept."""
ADDRESS = re.compile(r"\b(?:https?|wss?)://[^\s\"'<>\\]+", re.I)


class ApiKey:
    """An API key that `repr` and `str` do not show, and that cannot be pickled."""

    __slots__ = ("_value", "name")

    def __init__(self, value: str, name: str) -> None:
        self._value = value
        self.name = name
        """Where it comes from, such as MESHY_API_KEY."""

    def reveal(self) -> str:
        """The key itself, for a request's header and nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"ApiKey({self.name})"

    def __reduce__(self) -> Any:
        raise TypeError("an API key is not written anywhere")


class HeaderAuth(httpx.Auth):
    """Adds the key to the requests of a client, whose own headers therefore hold no key."""

    def __init__(self, key: ApiKey, header: str = "Authorization", scheme: str = "Bearer ") -> None:
        self._key, self._header, self._scheme = key, header, scheme

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sets the header."""
        request.headers[self._header] = self._scheme + self._key.reveal()
        yield request


def find_key(service: str, variables: Sequence[str]) -> ApiKey | None:
    """The key of a service, from the environment or, if the package keyring is installed, from the system's keyring.

    Args:
        service: The name of the service.
        variables: Environment variables that can hold it; the first one that is set counts.

    Returns:
        The key; None if there is none.

    Raises:
        InputError: The value cannot be a key, or the keyring cannot be read.
    """
    for variable in variables:
        if value := os.environ.get(variable, "").strip():
            return _checked(value, variable)
    value = (_from_keyring(service) or "").strip()
    return _checked(value, f"the keyring's {KEYRING_SERVICE} {service}") if value else None


def needed_key(service: str, title: str, variables: Sequence[str], page: str) -> ApiKey:
    """The key of a service.

    Args:
        service: The name of the service.
        title: What it calls itself.
        variables: Environment variables that can hold it.
        page: The address where users get one.

    Raises:
        InputError: There is none, its value cannot be a key, or the keyring cannot be read.
    """
    key = find_key(service, variables)
    if key is None:
        raise InputError(
            f"{title} needs a key: set the environment variable {variables[0]}, or store it with "
            f"`keyring set {KEYRING_SERVICE} {service}` (package keyring). Keys are made at {page}"
        )
    return key


def without_secrets(value: Any, keys: Sequence[ApiKey] = ()) -> Any:
    """A copy of a JSON value without keys, tokens, and the queries of addresses, which hold signatures."""
    if is_json_object(value):
        return {
            name: HIDDEN if SECRET_NAMES.search(name) and child else without_secrets(child, keys)
            for name, child in value.items()
        }
    if is_json_list(value):
        return [without_secrets(child, keys) for child in value]
    return clean_text(value, keys) if isinstance(value, str) else value


def clean_text(text: str, keys: Sequence[ApiKey] = ()) -> str:
    """A text without keys and without the queries of addresses; long ones are shortened."""
    for key in keys:
        text = text.replace(key.reveal(), HIDDEN)
    text = ADDRESS.sub(lambda found: without_query(found.group()), text)
    return text if len(text) <= MAX_TEXT else f"{text[:LONGEST_REASON]}…"


def without_query(address: str) -> str:
    """An address without user name, query and fragment."""
    try:
        parts = urlsplit(address)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return HIDDEN


def _checked(value: str, name: str) -> ApiKey:
    if not value.isascii() or not value.isprintable() or any(letter.isspace() for letter in value):
        raise InputError(f"{name} cannot be a key: it has blanks or characters other than ASCII; copy it again")
    return ApiKey(value, name)


def _from_keyring(service: str) -> str | None:
    try:
        keyring: Any = import_module("keyring")
        errors: Any = import_module("keyring.errors")
    except ImportError:
        return None
    try:
        return keyring.get_password(KEYRING_SERVICE, service)
    except errors.KeyringError as error:
        raise InputError(f"the system's keyring cannot be read ({type(error).__name__}): unlock it") from None
