"""The login at the identity provider: authorization code with PKCE, state and nonce.

What has to be remembered between going there and coming back stands in a cookie, signed, and nothing of it in a store:
nobody fills one by beginning logins. All secrets of one login are derived from the random number in it.

Source: OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9207; RFC 9700, section 2.1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from collegium.domain.errors import IdentityUnavailable, NotAuthenticated
from collegium.domain.principal import Principal
from collegium.ports import Clock
from collegium.server.auth.oidc import Oidc

LIFE_S: Final = 600
MAX_CODE_CHARS: Final = 4_096
CALLBACK: Final = "/auth/callback"


class Client(NamedTuple):
    """What the provider knows this server's console by.

    Attributes:
        id: Its client id.
        secret: Its secret; None for a public client.
        scopes: What it asks for.
    """

    id: str
    secret: str | None
    scopes: tuple[str, ...]


class Beginning(NamedTuple):
    """Where the browser is sent, and the cookie that it takes along."""

    url: str
    cookie: str


class _Attempt(msgspec.Struct, frozen=True):
    number: str
    until: float
    next: str


class Login:
    """Logs people in.

    Args:
        oidc: Checks the tokens.
        client: What the provider knows this server by.
        clock: Tells which logins are too old.
        pepper: What cookies are signed with.
        entropy: ``entropy(n)`` returns n random bytes.
    """

    def __init__(
        self, oidc: Oidc, client: Client, *, clock: Clock, pepper: bytes, entropy: Callable[[int], bytes]
    ) -> None:
        self._oidc = oidc
        self._client = client
        self._clock = clock
        self._secret = hmac.digest(pepper, b"login", hashlib.sha256)
        self._entropy = entropy

    async def begin(self, origin: str, *, next_path: str) -> Beginning:
        """Sends a browser to the provider; ``origin`` is where it comes back to. Raises ``IdentityUnavailable``."""
        endpoints = await self._oidc.provider.endpoints()
        if not endpoints.authorization_endpoint.startswith(("https://", "http://")):
            raise IdentityUnavailable("the identity provider does not say where people log in")
        number = _text(self._entropy(32))
        attempt = _Attempt(number, self._clock.now().timestamp() + LIFE_S, next_path)
        packed = _text(msgspec.json.encode(attempt))
        asked = {
            "response_type": "code",
            "client_id": self._client.id,
            "redirect_uri": origin + CALLBACK,
            "scope": " ".join(self._client.scopes),
            "state": self._derived("state", number),
            "nonce": self._derived("nonce", number),
            "code_challenge": _text(hashlib.sha256(self._derived("verifier", number).encode()).digest()),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in endpoints.authorization_endpoint else "?"
        url = f"{endpoints.authorization_endpoint}{separator}{urlencode(asked)}"
        return Beginning(url, f"{packed}.{self._derived('cookie', packed)}")

    async def finish(
        self, origin: str, *, cookie: str | None, state: str, code: str, issuer: str | None
    ) -> tuple[Principal, str]:
        """Who came back, and the path that they wanted to see. Raises ``NotAuthenticated``, ``IdentityUnavailable``."""
        attempt = self._read(cookie)
        is_this = attempt is not None and hmac.compare_digest(
            state.encode(), self._derived("state", attempt.number).encode()
        )
        if attempt is None or not is_this or issuer not in (None, self._oidc.policy.issuer):
            raise NotAuthenticated("this login did not begin in this browser, or began too long ago: log in again")
        if not 0 < len(code) <= MAX_CODE_CHARS:
            raise NotAuthenticated("the identity provider has not let you in")
        token = await self._oidc.provider.redeem(
            code,
            form={"redirect_uri": origin + CALLBACK, "code_verifier": self._derived("verifier", attempt.number)},
            client=self._client.id,
            secret=self._client.secret,
        )
        claims = await self._oidc.claims(token, audience=self._client.id, nonce=self._derived("nonce", attempt.number))
        # The session has an end of its own: that of the token, a few minutes off as a rule, is not the user's.
        return msgspec.structs.replace(self._oidc.principal(claims), expires_at=None), attempt.next

    def _read(self, cookie: str | None) -> _Attempt | None:
        packed, _, signature = (cookie or "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._derived("cookie", packed).encode()):
            return None
        attempt = msgspec.json.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=_Attempt)
        return attempt if attempt.until > self._clock.now().timestamp() else None

    def _derived(self, use: str, number: str) -> str:
        return _text(hmac.digest(self._secret, f"{use}:{number}".encode(), hashlib.sha256))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
