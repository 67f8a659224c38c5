"""Cookies: the session of the console, and the token that its pages show with every change."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal

from starlette.requests import HTTPConnection
from starlette.responses import Response

from collegium.server.auth.slips import NewSlip

SESSION: Final = "collegium_session"
CSRF: Final = "collegium_csrf"
LOGIN: Final = "collegium_login"
MAX_CHARS: Final = 4_000


class Cookies:
    """Reads and sets them.

    On https their names begin with ``__Host-``: browsers take those from this very host alone, for all of it, and send
    them over TLS only. Source: RFC 6265bis, section 4.1.3.

    Args:
        public_url: What browsers know the server by, where it is not ``Host``.
        pepper: What tokens are made with.
    """

    def __init__(self, public_url: str | None, *, pepper: bytes) -> None:
        self._public_url = public_url
        self._secret = hmac.digest(pepper, b"csrf", hashlib.sha256)

    def session(self, connection: HTTPConnection) -> str | None:
        """The text of the session that the browser shows."""
        return self.read(connection, SESSION)

    def token(self, session: str) -> str:
        """What pages of this session show with every change."""
        return hmac.digest(self._secret, session.encode(), hashlib.sha256).hex()

    def open(self, connection: HTTPConnection, response: Response, made: NewSlip) -> None:
        """Sets session and token; the browser sends them with requests of this server's own pages alone."""
        life_s = int((made.slip.expires_at - made.slip.made_at).total_seconds())
        self.write(connection, response, SESSION, made.text, life_s, same_site="strict")
        self.write(connection, response, CSRF, self.token(made.text), life_s, same_site="strict", is_hidden=False)

    def close(self, connection: HTTPConnection, response: Response) -> None:
        """Has the browser forget session and token."""
        for name in (SESSION, CSRF):
            self.write(connection, response, name, "", 0, same_site="strict")

    def read(self, connection: HTTPConnection, name: str) -> str | None:
        """The cookie of that name."""
        found = connection.cookies.get(self._name(connection, name))
        return found if found and len(found) <= MAX_CHARS else None

    def write(
        self,
        connection: HTTPConnection,
        response: Response,
        name: str,
        value: str,
        life_s: int,
        *,
        same_site: Literal["lax", "strict"],
        is_hidden: bool = True,
    ) -> None:
        """Sets the cookie of that name; a life of 0 has the browser forget it."""
        response.set_cookie(
            self._name(connection, name),
            value,
            max_age=life_s,
            path="/",
            secure=self._is_https(connection),
            httponly=is_hidden,
            samesite=same_site,
        )

    def _name(self, connection: HTTPConnection, name: str) -> str:
        return f"__Host-{name}" if self._is_https(connection) else name

    def _is_https(self, connection: HTTPConnection) -> bool:
        if self._public_url is not None:
            return self._public_url.startswith("https://")
        return connection.url.scheme in ("https", "wss")
