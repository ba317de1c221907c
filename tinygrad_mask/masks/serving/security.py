"""Which requests are let in, and the headers that tell a browser what the page may do."""

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
"""The content security policy of the page: nothing from elsewhere, no script in the text."""

_HEADERS = {
    "content-security-policy": "; ".join(
        f"{what} {of}" for what, of in {**POLICY, "frame-ancestors": "'none'"}.items()
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "referrer-policy": "no-referrer",
    # The browser asks each time whether the page has changed.
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def allowed_names(host: str, further: Collection[str]) -> frozenset[str] | None:
    """Return the names by which a server that listens on `host` may be called; None means any.

    On loopback only names of this machine: a page elsewhere whose name is made to mean 127.0.0.1
    (DNS rebinding) is refused. `further` are names given to the server, by a proxy for example.
    """
    if further:
        return frozenset(name.lower() for name in further) | _LOOPBACK_NAMES
    return _LOOPBACK_NAMES if is_loopback(host) else None


def is_authorized(token: str | None, headers: Mapping[str, str]) -> bool:
    """Whether the headers of a request have the token, if there is one: `Authorization: Bearer`."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return token is None or (scheme.lower() == "bearer" and is_token(token, given.strip()))


def is_token(token: str, given: str) -> bool:
    """Whether a text is the token, in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(token.encode(), given.encode())


class Guard:
    """Refuse requests from other pages and to other names, and add the headers to all answers.

    `names` are those by which the server may be called, without a port; None means any. A browser
    says in `Origin` which page a request or a socket is from; it must be one of this server.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it: 421 for another name, 403 for another page."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if self._names is not None and _without_port(host) not in self._names:
            text = "Host: expected a name of this server; --allow-host adds one"
            await JSONResponse({"error": text}, 421)(scope, receive, send_with_headers)
        elif "origin" in headers and urlsplit(headers["origin"].lower()).netloc != host:
            text = "Origin: expected a page of this server, got another page"
            await JSONResponse({"error": text}, 403)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
