# SPDX-License-Identifier: Apache-2.0
"""Downloads results: limited in size, resumed after an interruption, and complete or not at all. Sends no key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from img3d_base.errors import InputError
from img3d_generators.services.client import Pace, ServiceError, certificates, check_address, quiet_logs

MAX_BYTES = 1 << 30
"""Largest file that is downloaded."""
MAX_REDIRECTS = 5
TIMEOUT = httpx.Timeout(60.0, connect=15.0)
GONE = (401, 403, 404, 410)
"""Statuses of a link that has expired."""
OnProgress = Callable[[int, int | None], None]
"""Called with the number of bytes downloaded, and the total number, or None if that is unknown."""


class LinkExpired(ServiceError):
    """The link is invalid or has expired; the service can give a new one."""


@dataclass
class _State:
    etag: str = ""
    total: int | None = None
    have: int = 0


def download(
    address: str, path: Path, title: str, pace: Pace, on_progress: OnProgress, max_bytes: int = MAX_BYTES
) -> None:
    """Downloads a file to `path`, which appears once it is complete.

    After an interruption, only the rest is requested (Range) if the server names the file's version (ETag), also by a
    later call.

    Args:
        address: The link.
        path: Where to store it.
        title: The service's name, for messages.
        pace: How often to try, and how long to wait.
        on_progress: Called after each part.
        max_bytes: Larger files are refused.

    Raises:
        LinkExpired: The link has expired.
        ServiceError: The server cannot be reached, refuses, or sends too much.
        InputError: The file cannot be written.
    """
    check_address(address, title)
    quiet_logs()
    state = _State()
    try:
        with httpx.Client(timeout=TIMEOUT, verify=certificates()) as http:
            failures = most = 0
            while True:
                try:
                    part = _fetched(http, address, path, title, state, on_progress, max_bytes)
                except (httpx.HTTPError, _Again):
                    failures = 0 if state.have > most else failures + 1  # any number of times, if there is progress
                    most = max(most, state.have)
                    if failures == pace.attempts:
                        raise ServiceError(
                            f"the result cannot be downloaded from {title}, whose server hangs up or has trouble: run "
                            "the command again, which costs nothing"
                        ) from None
                    pace.sleep(pace.pause(failures))
                else:
                    part.replace(path)
                    return
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


class _Again(Exception):
    """The transfer was interrupted, or the server has trouble that may pass."""


def _fetched(
    http: httpx.Client, address: str, path: Path, title: str, state: _State, on_progress: OnProgress, max_bytes: int
) -> Path:
    """Fetches what the temporary file lacks, and returns its path."""
    part = _part(path, state.etag)
    have = part.stat().st_size if state.etag and part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state.etag}
    with _opened(http, http.build_request("GET", address, headers=headers), title) as response:
        if response.status_code in GONE:
            raise LinkExpired(f"the link to the result of {title} has expired", response.status_code)
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _Again
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise _Again
        if not response.is_success:
            raise ServiceError(f"{title}: the result cannot be downloaded (HTTP {response.status_code})")
        etag = response.headers.get("ETag", "")
        strong = etag if etag.startswith('"') else ""  # weak ones do not promise the same bytes
        resumed = response.status_code == 206 and have > 0
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _Again
        if not resumed:
            asked_for_rest = have > 0
            state.etag, state.total = strong, _length(response)
            part, have = _part(path, strong), 0
            kept = part.stat().st_size if strong and part.is_file() else 0
            can_resume = "bytes" in response.headers.get("Accept-Ranges", "") and not asked_for_rest
            if can_resume and state.total is not None and 0 < kept < state.total:
                raise _Again  # an earlier call got this far: continue there
        if state.total is not None and state.total > max_bytes:
            raise ServiceError(f"{title} sends {state.total:,} bytes; at most {max_bytes:,} are downloaded")
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > max_bytes:
                    raise ServiceError(f"{title} sends more than {max_bytes:,} bytes, the most that is downloaded")
                file.write(chunk)
                state.have = have
                on_progress(have, state.total)
    if state.total is not None and have != state.total:
        raise _Again
    return part


@contextmanager
def _opened(http: httpx.Client, request: httpx.Request, title: str) -> Generator[httpx.Response, None, None]:
    """The response to a request, after redirects to addresses that are as safe."""
    for _ in range(MAX_REDIRECTS + 1):
        response = http.send(request, stream=True)
        try:
            if response.next_request is None:
                yield response
                return
            request = response.next_request
        finally:
            response.close()
        check_address(str(request.url), title)
    raise ServiceError(f"{title}: the link to the result leads from one place to the next without end")


def _part(path: Path, etag: str) -> Path:
    """The temporary file of one version of a file."""
    version = hashlib.sha256(etag.encode()).hexdigest()[:8] if etag else "new"
    return path.with_name(f"{path.name}.{version}.part")


def _length(response: httpx.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None
