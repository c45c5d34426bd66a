# SPDX-License-Identifier: Apache-2.0
"""Restricts who may use the studio: only this machine, or whoever has the token."""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

LOOPBACK = ("127.0.0.1", "localhost", "::1")
COOKIE = "img3d_studio_token"
"""Name of the cookie that holds the token."""
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"SAMEORIGIN"),
)


class Guard:
    """Middleware that refuses requests of strangers and of other sites' pages.

    Args:
        app: The application that it guards.
        token: The token that requests need, as a cookie or, once, as `?token=`. Empty: no token is needed, but the Host
            header has to be one of `LOOPBACK`. Otherwise another site's page could use the studio, by making its own
            host name resolve to 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, token: str = "") -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.token and urlsplit(f"//{host}").hostname not in LOOPBACK:
            await _refuse(scope, receive, send, 400, "The studio answers at 127.0.0.1 only.")
            return
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            await _refuse(scope, receive, send, 403, "Another site's page may not use the studio.")
            return
        if self.token and not self._has_token(headers):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["type"] != "http" or not hmac.compare_digest(given.encode(), self.token.encode()):
                await _refuse(scope, receive, send, 401, "Open the address that img3d-studio printed, with its token.")
                return
            response = RedirectResponse(scope["path"], status_code=303)
            response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            await response(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SECURITY]
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _has_token(self, headers: Headers) -> bool:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.token.encode())


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, message: str) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose(code=1008, reason=message)(scope, receive, send)
    else:
        await PlainTextResponse(message, status)(scope, receive, send)
