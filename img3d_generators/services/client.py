# SPDX-License-Identifier: Apache-2.0
"""Requests to a service's API, over httpx: retries, time-outs, limits, and one-line errors.

A request that makes a job, which costs money, is repeated only if the service cannot have taken it.
"""

from __future__ import annotations

import email.utils
import ipaddress
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx

from img3d_base.errors import InputError
from img3d_base.foreign_files import is_json_list, is_json_object, legible, parse_json
from img3d_generators.services.keys import ApiKey, HeaderAuth, clean_text

MAX_ANSWER_BYTES = 16 << 20
"""Largest answer in JSON."""
CONNECT_SECONDS, READ_SECONDS, WRITE_SECONDS = 15.0, 60.0, 120.0
"""Time-outs; that for reading limits how long an answer may take to begin."""
NOTHING_WAS_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Errors that occur before any part of a request is sent."""
REFUSED_FOR_NOW = (429, 503)
"""Statuses after which an order is repeated, since they say that the service did not take it."""
GATEWAYS = (408, 502, 504)
"""Statuses of a gateway that got no answer, so that it is unknown whether the order was taken."""
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which a request that makes no job is repeated."""


class ServiceError(InputError):
    """A service refused, failed, or did not answer. The message is one line."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; 0 if there was no answer."""


class NotKnownWhetherTaken(ServiceError):
    """A request that makes a job was sent and got no answer: the service may have taken it."""


@dataclass
class Pace:
    """How long to wait; tests wait less."""

    sleep: Callable[[float], None] = time.sleep
    attempts: int = 6
    """Maximum number of attempts at a request."""
    backoff: float = 1.0
    """Seconds before the second attempt, ± 25 % at random; each further pause is twice as long."""
    longest_pause: float = 120.0
    """Seconds beyond which pauses do not grow. If a service asks for more, the request fails."""
    first_poll: float = 2.0
    """Seconds between the first two questions about a job's state."""
    poll_growth: float = 1.25
    """Factor of each further pause between questions."""
    longest_poll: float = 15.0
    """Maximum seconds between questions."""
    longest_job: float = 3600.0
    """Seconds after which a job is no longer waited for; it can be picked up later."""

    def pause(self, attempt: int) -> float:
        """Seconds to wait after an attempt, counted from 0."""
        return min(self.longest_pause, self.backoff * 2**attempt) * random.uniform(0.75, 1.25)


@dataclass
class ServiceClient:
    """Talks to one service's API."""

    title: str
    """What the service calls itself, for messages."""
    base_url: str
    """The address before the paths of all requests."""
    key: ApiKey
    header: str = "Authorization"
    """The header that holds the key."""
    scheme: str = "Bearer "
    """What precedes the key in the header."""
    help_pages: Mapping[int, str] = field(default_factory=dict[int, str])
    """Explanations of HTTP statuses, for messages."""
    pace: Pace = field(default_factory=Pace)
    read_seconds: float = READ_SECONDS
    """Time until an answer has to begin."""

    def __post_init__(self) -> None:
        check_address(self.base_url, self.title)
        quiet_logs()
        # Redirects are not followed: httpx would send a header such as x-api-key to the other host too.
        timeout = httpx.Timeout(self.read_seconds, connect=CONNECT_SECONDS, write=WRITE_SECONDS)
        auth = HeaderAuth(self.key, self.header, self.scheme)
        # Each connection is used once: a server may close an idle one just when an order is sent, and then it would be
        # unknown whether the order was taken.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(
            auth=auth, timeout=timeout, follow_redirects=False, verify=certificates(), limits=limits
        )
        self.has_ordered = False
        """Whether a request that makes a job has begun."""

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def get(self, path: str) -> Any:
        """The JSON answer to a GET request."""
        return self._json(self.send("GET", path))

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a POST request that makes nothing, such as a question about a job's state."""
        return self._json(self.send("POST", path, json=dict(body)))

    def order(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON answer to a POST request that makes a job.

        Raises:
            NotKnownWhetherTaken: The request was sent, and no answer came.
            ServiceError: The service refused.
        """
        return self._json(self.send("POST", path, costs=True, json=dict(body)))

    def send_form(
        self,
        path: str,
        fields: Mapping[str, str],
        files: Sequence[tuple[str, tuple[str, bytes, str]]],
        costs: bool,
        accept: str = "application/json",
    ) -> httpx.Response:
        """The answer to a POST request with a multipart form.

        Args:
            path: The path after `base_url`.
            fields: Names and values.
            files: For each file the field's name, and the file's name, content and media type.
            costs: Whether the request makes a job.
            accept: The media type of the answer.

        Raises:
            NotKnownWhetherTaken: A request that makes a job was sent, and no answer came.
            ServiceError: The service cannot be reached, or refused.
        """
        # A form without files would be sent url-encoded.
        parts: list[tuple[str, Any]] = [(name, (None, value.encode())) for name, value in fields.items()]
        return self.send("POST", path, costs=costs, files=[*parts, *files], headers={"Accept": accept})

    def json_of_form(self, *args: Any, **kwargs: Any) -> Any:
        """`send_form`, with an answer in JSON."""
        return self._json(self.send_form(*args, **kwargs))

    def send(self, method: str, path: str, costs: bool = False, **kwargs: Any) -> httpx.Response:
        """Sends a request, and repeats it after failures that may pass.

        Args:
            method: GET or POST.
            path: The path after `base_url`.
            costs: Whether the request makes a job.
            kwargs: As for httpx.

        Raises:
            NotKnownWhetherTaken: A request that makes a job was sent, and no answer came.
            ServiceError: The service cannot be reached, or refused.
        """
        self.has_ordered |= costs
        for attempt in range(self.pace.attempts):
            last = attempt == self.pace.attempts - 1
            try:
                response = self._http.request(method, self.base_url + path, **kwargs)
            except NOTHING_WAS_SENT as error:
                if last:
                    raise ServiceError(self._unreachable(error)) from None
                self.pace.sleep(self.pace.pause(attempt))
                continue
            except httpx.HTTPError as error:
                if costs:
                    raise NotKnownWhetherTaken(self._unanswered(type(error).__name__)) from None
                if last:
                    raise ServiceError(self._unreachable(error)) from None
                self.pace.sleep(self.pace.pause(attempt))
                continue
            if response.is_success:
                return response
            if costs and response.status_code in GATEWAYS:
                raise NotKnownWhetherTaken(self._unanswered(f"HTTP {response.status_code}"), response.status_code)
            if response.status_code not in (REFUSED_FOR_NOW if costs else MAY_PASS) or last or _is_final(response):
                raise self.refusal(response)
            self._wait_as_asked(response, attempt)
        raise AssertionError("the last attempt returns or raises")

    def refusal(self, response: httpx.Response) -> ServiceError:
        """The error that describes a response without success."""
        status = response.status_code
        reason = self._reason(response)
        said = f" ({reason})" if reason else ""
        if status in self.help_pages:
            return ServiceError(f"{self.title} refuses{said}: {self.help_pages[status]}", status)
        explanations = {
            401: f"does not accept the key in {self.key.name}{said}: check it",
            402: f"has no credits left for this account{said}: see `img3d-remote balance`",
            403: f"does not permit this with the key in {self.key.name}{said}",
            404: f"knows nothing under this address or number{said}",
            429: f"has too many requests or jobs of this account{said}: try again later",
        }
        if 300 <= status < 400:
            return ServiceError(f"{self.title} answers with a redirect, which is not followed with a key", status)
        if status >= 500:
            return ServiceError(f"{self.title} has trouble of its own (HTTP {status}){said}: try again later", status)
        what = explanations.get(status, f"refuses the request (HTTP {status}){said}")
        return ServiceError(f"{self.title} {what}", status)

    def clean(self, text: object) -> str:
        """A text of the service as one line without secrets, for a message."""
        return legible(clean_text(" ".join(str(text).split()), [self.key]))

    def _reason(self, response: httpx.Response) -> str:
        """The service's explanation of a refusal, in one line; empty if it gives none."""
        try:
            answer = parse_json(response.content, self.title, MAX_ANSWER_BYTES)
        except InputError:
            return ""
        return self.clean(text) if (text := message_in(answer)) else ""

    def _json(self, response: httpx.Response) -> Any:
        if len(response.content) > MAX_ANSWER_BYTES:
            raise ServiceError(f"{self.title} answers with {len(response.content):,} bytes instead of a short text")
        try:
            return parse_json(response.content, f"the answer of {self.title}", MAX_ANSWER_BYTES)
        except InputError as error:
            raise ServiceError(self.clean(error), response.status_code) from None

    def _wait_as_asked(self, response: httpx.Response, attempt: int) -> None:
        asked = retry_after(response.headers)
        if asked is not None and asked > self.pace.longest_pause:
            raise ServiceError(f"{self.title} asks to wait for {asked:.0f} s: try again then", response.status_code)
        self.pace.sleep(self.pace.pause(attempt) if asked is None else asked)

    def _unreachable(self, error: Exception) -> str:
        host = urlsplit(self.base_url).netloc
        return f"{self.title} cannot be reached at {host} ({type(error).__name__}): is this machine online?"

    def _unanswered(self, why: str) -> str:
        return f"{self.title} did not answer after the job was sent ({why}), so it may have been taken, and paid"


@cache
def certificates() -> ssl.SSLContext:
    """What httpx checks certificates with. It is loaded once, because that is slow."""
    return httpx.create_ssl_context()


def quiet_logs() -> None:
    """Drops httpx's log messages below WARNING: they contain whole addresses, with signatures."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


def check_address(address: str, title: str) -> None:
    """Refuses an address to which a key or an order would be sent unencrypted.

    Raises:
        ServiceError: It is neither https nor http on this machine.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ServiceError(f"{title}: addresses have to begin with https://")


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the time that a Retry-After header gives, as a number or a date; None without a valid one."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def message_in(answer: Any) -> str:
    """The error message in a refusal, wherever it is; empty if there is none."""
    if isinstance(answer, str):
        return answer
    if is_json_list(answer):
        return "; ".join(filter(None, map(message_in, answer[:3])))
    if not is_json_object(answer):
        return ""
    for name in ("message", "error_message", "msg", "errors", "detail", "error", "suggestion", "name"):
        if text := message_in(answer.get(name)):
            return text
    return ""


def _is_final(response: httpx.Response) -> bool:
    """Whether the service says that it will fail again (fal's header X-Fal-Retryable)."""
    return response.headers.get("X-Fal-Retryable", "").lower() == "false"
