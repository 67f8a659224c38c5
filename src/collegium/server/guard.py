"""The guard of a server on loopback: no web page reaches it, neither by rebinding nor by requests across sites."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from collegium.server.problem import problem

_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``. A name other than ``localhost`` may mean anything: it does not."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class LoopbackGuard:
    """Lets only requests through that name this machine, and that no page of another site has sent.

    A name that an attacker's server resolves to 127.0.0.1 shows in ``Host``; a page of another site in ``Origin``
    and in ``Sec-Fetch-Site``.

    Args:
        app: What is guarded.
        host: The address that the server listens on.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._names = _NAMES | {host.strip("[]").lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with 421 or 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name(host) not in self._names:
            status, code, why = 421, "misdirected", f"this server answers to this machine's own names, not to {host!r}"
        elif not _is_own(headers, host) and not _is_return(scope, headers):
            status, code, why = 403, "cross_site", "requests that pages of other sites send are refused"
        else:
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})
            return
        await problem(Request(scope), status, code, why)(scope, receive, send)


def _name(host: str) -> str:
    """The name in a ``Host`` header, without its port; empty where there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_return(scope: Scope, headers: Headers) -> bool:
    """Whether a browser comes back from the identity provider, which is another site; what it brings is checked."""
    is_there = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/auth/callback"
    return is_there and "origin" not in headers and headers.get("sec-fetch-mode") == "navigate"


def _is_own(headers: Headers, host: str) -> bool:
    """Whether the request comes from a page of this very server, or from no page at all.

    Source: Fetch Metadata Request Headers (W3C), section 2; RFC 6454, section 7.
    """
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
