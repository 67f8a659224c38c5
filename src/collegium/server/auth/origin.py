"""Origins: which requests a browser sends for a page of this very server."""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from collegium.domain.errors import NotAllowed, UsageError

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
CSRF_HEADER: Final = "x-csrf-token"
MAX_NEXT_CHARS: Final = 2_000


def is_own(connection: HTTPConnection, public_url: str | None) -> bool | None:
    """Whether a page of this server sent the request; None where the browser, if it is one, does not say.

    Source: RFC 6454, section 7; Fetch Metadata Request Headers (W3C), section 2.
    """
    origin = connection.headers.get("origin")
    if origin is not None:
        host = connection.headers.get("host", "")
        own = (public_url,) if public_url is not None else (f"http://{host}", f"https://{host}")
        return origin.lower() in tuple(one.lower() for one in own)
    site = connection.headers.get("sec-fetch-site")
    return None if site is None else site == "same-origin"


def check_sender(connection: HTTPConnection, public_url: str | None, token: str) -> None:
    """Raises ``NotAllowed`` for a change that comes with a cookie and perhaps not from a page of this server.

    A socket is a change too; a browser cannot give it a header, so that its origin alone counts.

    Args:
        connection: Came with a session's cookie.
        public_url: What browsers know the server by, where it is not ``Host``.
        token: What the page has to show in the header ``X-CSRF-Token``.
    """
    if connection.scope["type"] == "websocket":
        is_fine = is_own(connection, public_url) is True and "origin" in connection.headers
    elif connection.scope["method"] in SAFE:
        return
    else:
        shown = connection.headers.get(CSRF_HEADER, "")
        is_fine = is_own(connection, public_url) is True and hmac.compare_digest(shown.encode(), token.encode())
    if not is_fine:
        raise NotAllowed(
            "a change that comes with a cookie has to come from a page of this server, with the token of its session "
            "in X-CSRF-Token; programs show a key instead"
        )


def check_next(path: str) -> str:
    """``path``, to which a browser is sent after the login. Raises ``UsageError`` for one that leads elsewhere."""
    if not _is_here(path):
        raise UsageError("next has to be a path of this server, as /runs")
    return path


def _is_here(path: str) -> bool:
    if len(path) > MAX_NEXT_CHARS or not path.isascii() or not path.isprintable() or " " in path or "\\" in path:
        return False
    try:
        parts = urlsplit(path)
    except ValueError:
        return False
    return path.startswith("/") and not path.startswith("//") and not parts.scheme and not parts.netloc
