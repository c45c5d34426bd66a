# SPDX-License-Identifier: Apache-2.0
"""Put on PYTHONPATH by the tests: every attempt to reach another machine fails, and is written to a file."""

from __future__ import annotations

import os
import socket
from typing import Any

LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None)
_connect, _getaddrinfo = socket.socket.connect, socket.getaddrinfo


def _refuse(target: object) -> None:
    with open(os.environ["IMG3D_TEST_NETWORK_LOG"], "a") as log:
        log.write(f"{target}\n")
    raise OSError(f"no network in this test: {target}")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
        _refuse(address)
    _connect(self, address)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host not in LOCAL:
        _refuse(host)
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = _guarded_connect  # pyright: ignore[reportAttributeAccessIssue]
socket.getaddrinfo = _guarded_getaddrinfo
