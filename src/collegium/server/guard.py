"""The guard of a server on loopback: no web page reaches it, neither by rebinding nor by requests across sites."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_KNOWN = 100
_TELLING = frozenset({b"origin", b"sec-fetch-site"})


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
        host: The address that the server listens on.
    """

    def __init__(self, host: str) -> None:
        self._names = _NAMES | {host.strip("[]").lower()}
        self._own: set[str] = set()
        """``Host`` headers that were found to be this machine's; each is one of its names with a port."""

    def against(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, code and reason of the refusal (400, 421 or 403), or None for a request that may come in."""
        given, has_told = None, False
        for name, value in scope["headers"]:
            if name == b"host":
                if given is not None:
                    return 400, "invalid_request", "the request names several hosts: it has to name one"
                given = value
            elif name in _TELLING:
                has_told = True
        host = "" if given is None else given.decode("latin-1")
        if not self._is_known(host):
            return 421, "misdirected", f"this server answers to this machine's own names, not to {host[:100]!r}"
        if not has_told:
            return None  # no page has sent it
        headers = Headers(scope=scope)
        if not _is_own(headers, host) and not _is_return(scope, headers):
            return 403, "cross_site", "requests that pages of other sites send are refused"
        return None

    def _is_known(self, host: str) -> bool:
        if host in self._own:
            return True
        if _name(host) not in self._names:
            return False
        if len(self._own) < _MOST_KNOWN:
            self._own.add(host)
        return True


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
