# SPDX-License-Identifier: Apache-2.0
"""The registry of services, a row each. A row is data; its adapter is imported when it is used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from img3d_base.errors import InputError

if TYPE_CHECKING:
    from img3d_generators.services.adapter import Adapter, Gives
    from img3d_generators.services.client import Pace


@dataclass(frozen=True)
class Service:
    """A service on the network."""

    name: str
    """The name that users give as --pipeline.service."""
    title: str
    """The name that the service calls itself."""
    adapter: str
    """`module:Class` in img3d_generators.services.adapters."""
    base_url: str
    """The address before the paths of its API."""
    keys: tuple[str, ...]
    """Environment variables that can hold the key; the first one is the documented name."""
    key_page: str
    """Where users get a key."""
    terms: str
    """The address of its terms, which state the licence of results."""
    prices: str
    """The address of its list of prices."""
    price: str
    """The list price of one asset, as documented when this row was written."""
    max_pictures: int
    """The most pictures of one object that it takes."""
    takes_text: bool = True
    gives: tuple[Gives, ...] = ("Mesh",)
    caution: str = ""
    """A warning that users see before they pay."""

    @property
    def address(self) -> str:
        """`base_url`, unless the environment variable IMG3D_NAME_URL gives another one (of a proxy, or in tests)."""
        return os.environ.get(f"IMG3D_{self.name.upper()}_URL", "").rstrip("/") or self.base_url

    def adapter_class(self) -> type[Adapter]:
        """The adapter's class."""
        module, name = self.adapter.split(":")
        return getattr(import_module(f"img3d_generators.services.adapters.{module}"), name)

    def connected(self, pace: Pace | None = None) -> Adapter:
        """The adapter with the user's key; sends nothing yet.

        Raises:
            InputError: There is no key, or the address does not encrypt it.
        """
        from img3d_generators.services.client import Pace, ServiceClient
        from img3d_generators.services.keys import needed_key

        made = self.adapter_class()
        key = needed_key(self.name, self.title, self.keys, self.key_page)
        client = ServiceClient(
            self.title,
            self.address,
            key,
            header=made.HEADER,
            scheme=made.SCHEME,
            help_pages=made.HELP,
            pace=Pace() if pace is None else pace,
            read_seconds=made.READ_SECONDS,
        )
        return made(client)


def services() -> dict[str, Service]:
    """All services by name."""
    from img3d_generators.services.rows import ROWS

    return {row.name: row for row in ROWS}


def service(name: str) -> Service:
    """Finds a service by its name.

    Raises:
        InputError: There is no such service.
    """
    known = services()
    if name not in known:
        asked = f"There is no service {name!r}" if name else "Which service"
        raise InputError(f"{asked}; there are: {', '.join(known)}")
    return known[name]
