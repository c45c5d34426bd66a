# SPDX-License-Identifier: Apache-2.0
"""A Hugging Face hub on this machine, for huggingface_hub's own client: files by name, cut off on request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from local_server import serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What is served, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by `owner/repository/path`."""
    gated: set[str] = field(default_factory=set)
    """Repositories that want their terms accepted."""
    cut_after: int | None = None
    """Bytes after which the next download is cut off."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, name and Range header."""
    etags: dict[str, str] = field(default_factory=dict)
    """What to say instead of a file's checksum."""
    endpoint: str = ""
    """The address."""

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        """Serves until the end of the context."""
        with serving(_Handler, served=self) as self.endpoint:
            yield self


def etag(name: str, content: bytes) -> str:
    """As the real hub: SHA-256 of large files, git's blob name of those that lie in git itself."""
    if name.endswith(".json"):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    served: FakeHub

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        hub = self.served
        owner, repository, verb, _, *parts = [*self.path.lstrip("/").split("/"), "", "", "", ""]
        name = "/".join([owner, repository, *filter(None, parts)])
        asked = self.headers.get("Range", "")
        hub.requests.append((self.command, name, asked))
        if verb != "resolve" or name not in hub.files or f"{owner}/{repository}" in hub.gated:
            gated = f"{owner}/{repository}" in hub.gated
            self.send_response(403 if gated else 404)
            self.send_header("X-Error-Code", "GatedRepo" if gated else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = hub.files[name]
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hub.etags.get(name) or etag(name, content)}"')
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_content:
            rest, hub_cut = content[start:], hub.cut_after
            hub.cut_after = None
            self.wfile.write(rest if hub_cut is None else rest[:hub_cut])

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
