# SPDX-License-Identifier: Apache-2.0
"""A service on this machine: what all fakes share. Each speaks a service's documented protocol, and refuses what its
documentation does not have."""

from __future__ import annotations

import json
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import trimesh
from local_server import serving

from img3d_assets.mesh import Mesh
from img3d_assets.mesh_formats.glb import glb

KEY = "secret-key-0123456789abcdef"
SIGNATURE = "signature-that-nobody-may-keep"


@cache
def box_glb() -> bytes:
    """A box twice as deep as wide, y up."""
    made = trimesh.creation.box((1.0, 1.0, 2.0))
    colors = np.full((8, 3), 0.5, np.float32)
    return glb(Mesh(np.asarray(made.vertices, np.float32), np.asarray(made.faces), colors, up="y"))


@dataclass
class Request:
    """A request as the service got it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, list[bytes]]:
        """The body as a form: all values of each field."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        parsed: dict[str, list[bytes]] = {}
        for part in BytesParser().parsebytes(head + self.body).walk():
            name = part.get_param("name", header="Content-Disposition")
            if name is not None:
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                parsed.setdefault(str(name), []).append(content)
        return parsed


@dataclass
class Reply:
    """An answer."""

    status: int = 200
    body: Any = None
    """JSON, or bytes."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Mishap:
    """What goes wrong with the next request that fits."""

    path: str
    """A regular expression for its path."""
    reply: Reply | None = None
    """The answer instead; None: the connection is cut without one."""
    cut_after: int | None = None
    """Bytes of the real answer after which the connection is cut."""
    slow: float = 0.0
    """Seconds before the answer."""
    taken: bool = False
    """Whether the service has done the work before it goes wrong."""


@dataclass
class FakeService(ABC):
    """What is served, what was asked, and what goes wrong."""

    files: dict[str, bytes] = field(default_factory=lambda: {"/files/asset.glb": box_glb()})
    """Results by path; the links to them are signed."""
    states: list[Any] = field(default_factory=list)
    """What questions about a job are answered with, one after the other; the last one stays."""
    mishaps: deque[Mishap] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    resumable: bool = True
    """Whether downloads can be resumed."""
    links: int = 0
    """How many links were given; only the latest one is valid."""
    jobs: int = 0
    """How many jobs were paid."""
    url: str = ""
    """The address."""
    header = "authorization"
    scheme = "Bearer "

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """What the service's own protocol says."""

    def link(self, name: str = "/files/asset.glb") -> str:
        """A new signed link to a result; earlier ones expire."""
        self.links += 1
        return f"{self.url}{name}?Signature={SIGNATURE}&Expires={self.links}"

    def next_state(self) -> Any:
        """The next of `states`."""
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def sent(self, method: str, path: str) -> list[Request]:
        """The requests to a path, a regular expression."""
        return [each for each in self.requests if each.method == method and re.fullmatch(path, each.path)]

    def goes_wrong(self, path: str, status: int = 0, body: Any = None, times: int = 1, **how: Any) -> None:
        """Lets the next requests to a path fail; status 0 cuts the connection unless something else is said."""
        headers = how.pop("headers", {})
        reply = Reply(status, body if body is not None else {}, headers) if status else None
        self.mishaps.extend(Mishap(path, reply, **how) for _ in range(times))

    def reply_to(self, request: Request) -> Reply:
        """The answer of the service, or a file."""
        if request.path in self.files:
            return self._file(request)
        if request.headers.get(self.header) != self.scheme + KEY:
            return Reply(401, {"message": f"Invalid key: {request.headers.get(self.header, '')}"})
        return self.answer(request)

    def _file(self, request: Request) -> Reply:
        assert self.header not in request.headers, "a key was sent with a link"
        if request.query.get("Signature") != [SIGNATURE] or request.query.get("Expires") != [str(self.links)]:
            return Reply(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
        content = self.files[request.path]
        headers = {"ETag": '"v1"', "Accept-Ranges": "bytes"} if self.resumable else {}
        asked = request.headers.get("range", "")
        if not (asked and self.resumable):
            return Reply(200, content, headers)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        assert request.headers.get("if-range") == '"v1"'
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return Reply(206, content[start:], headers)

    @contextmanager
    def serving(self) -> Iterator[FakeService]:
        """Serves until the end of the context."""
        with serving(_Handler, served=self) as self.url:
            yield self


def unknown_fields(body: dict[str, Any], documented: set[str]) -> Reply | None:
    """A refusal of fields that the documentation does not have."""
    unknown = sorted(set(body) - documented)
    return Reply(400, {"message": f"unknown fields: {', '.join(unknown)}"}) if unknown else None


class _Handler(BaseHTTPRequestHandler):
    served: FakeService
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two would wait for each other for 40 ms

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        service = self.served
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = Request(self.command, parts.path, parse_qs(parts.query), headers, body)
        service.requests.append(request)
        mishap = next((each for each in service.mishaps if re.fullmatch(each.path, request.path)), None)
        if mishap is None:
            self._write(service.reply_to(request))
            return
        service.mishaps.remove(mishap)
        time.sleep(mishap.slow)
        reply = service.reply_to(request) if mishap.taken or mishap.cut_after is not None or mishap.slow else None
        reply = mishap.reply or (reply if mishap.cut_after is not None or mishap.slow else None)
        self.close_connection = True
        if reply is not None:
            self._write(reply, mishap.cut_after)

    def _write(self, reply: Reply, cut_after: int | None = None) -> None:
        is_json = not isinstance(reply.body, bytes)
        content = json.dumps(reply.body).encode() if is_json else reply.body
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json" if is_json else "application/octet-stream")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut_after])
        if cut_after is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
