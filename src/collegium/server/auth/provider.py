"""The identity provider: where its endpoints are, its keys, and what it gives for a code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey

from collegium.domain.errors import IdentityUnavailable, NotAuthenticated
from collegium.ports import Clock
from collegium.server.guard import is_loopback

TIMEOUT_S: Final = 5.0
FRESH_S: Final = 3_600.0
"""What the provider publishes is asked for again after so long."""
AGAIN_S: Final = 30.0
"""For a key that is not known it is asked at most so often."""
MAX_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2_048
WELL_KNOWN: Final = "/.well-known/openid-configuration"
_log = logging.getLogger("collegium.auth")


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider publishes of itself, as far as it is needed.

    Source: OpenID Connect Discovery 1.0, section 3.
    """

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Provider:
    """Asks the provider, and remembers.

    Args:
        issuer: Its URL.
        clock: Tells how old an answer is.
    """

    def __init__(self, issuer: str, *, clock: Clock) -> None:
        self.issuer = issuer
        self._clock = clock
        self._endpoints: Endpoints | None = None
        self._keys: tuple[Key, ...] = ()
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._lock = asyncio.Lock()

    async def endpoints(self) -> Endpoints:
        """Where it is asked. Raises ``IdentityUnavailable``."""
        if self._endpoints is None:
            await self._refresh(FRESH_S)
        if self._endpoints is None:
            raise self._away()
        return self._endpoints

    async def key(self, kid: str | None, algorithm: str) -> Key:
        """Its key of that name, for signatures of that kind.

        One that is not known is asked for, but not for every forged token: at most twice a minute.

        Raises:
            NotAuthenticated: there is none.
            IdentityUnavailable: no key is known, and the provider does not answer.
        """
        await self._refresh(FRESH_S)
        found = self._find(kid, algorithm)
        if found is None:
            await self._refresh(AGAIN_S)
            found = self._find(kid, algorithm)
        if found is None and not self._keys:
            raise self._away()
        if found is None:
            raise NotAuthenticated("the token is signed with a key that the identity provider does not have")
        return found

    async def redeem(self, code: str, *, form: Mapping[str, str], client: str, secret: str | None) -> str:
        """The ID token for a code. Raises ``NotAuthenticated``, ``IdentityUnavailable``."""
        endpoints = await self.endpoints()
        data = {**form, "grant_type": "authorization_code", "code": code, "client_id": client}
        auth = httpx.Auth()  # nobody's
        if secret is not None and "client_secret_basic" in endpoints.token_endpoint_auth_methods_supported:
            auth = httpx.BasicAuth(client, secret)
        elif secret is not None:
            data["client_secret"] = secret
        try:
            async with _client() as http:
                reply = await http.post(_safe(endpoints.token_endpoint), data=data, auth=auth)
        except (httpx.HTTPError, ValueError) as error:
            raise self._away() from error
        if reply.status_code >= 500:
            raise self._away()
        try:
            token = msgspec.json.decode(reply.content[:MAX_BYTES], type=dict[str, Any]).get("id_token")
        except msgspec.MsgspecError:
            token = None
        if reply.status_code != 200 or not isinstance(token, str):
            raise NotAuthenticated("the identity provider did not accept the login: try again")
        return token

    def _find(self, kid: str | None, algorithm: str) -> Key | None:
        fitting = [key for key in self._keys if _fits(key, algorithm)]
        if kid is None:
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == kid), None)

    async def _refresh(self, older_s: float) -> None:
        """Asks again if what is known is older than that; where it does not answer, what is known goes on to count."""
        if self._is_fresh(older_s) or (self._lock.locked() and self._keys and older_s == FRESH_S):
            return
        async with self._lock:
            if self._is_fresh(older_s):
                return
            self._tried_s = now_s = self._clock.monotonic()
            try:
                async with asyncio.timeout(2 * TIMEOUT_S), _client() as http:
                    found = await _read(http, self.issuer.rstrip("/") + WELL_KNOWN)
                    endpoints = msgspec.convert(found, Endpoints)
                    if endpoints.issuer != self.issuer:
                        raise ValueError(f"it calls itself {endpoints.issuer[:200]!r}")
                    keys = _keys(await _read(http, _safe(endpoints.jwks_uri)))
            except (httpx.HTTPError, msgspec.MsgspecError, ValueError, TimeoutError) as error:
                why = str(error) or type(error).__name__
                _log.warning("the identity provider %s cannot be asked: %s", self.issuer, why)
                return
            self._endpoints, self._keys, self._fetched_s = endpoints, keys, now_s

    def _is_fresh(self, older_s: float) -> bool:
        now_s = self._clock.monotonic()
        return now_s - self._fetched_s <= older_s or now_s - self._tried_s <= AGAIN_S

    def _away(self) -> IdentityUnavailable:
        return IdentityUnavailable(f"the identity provider {self.issuer} does not answer: try again, or use a key")


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, headers={"accept": "application/json"})


async def _read(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The document at ``url``, as long as it is not too large. Raises ``ValueError``, ``httpx.HTTPError``."""
    data = bytearray()
    async with http.stream("GET", url) as reply:
        if reply.status_code != 200:
            raise ValueError(f"{url} answers {reply.status_code}")
        async for part in reply.aiter_bytes():
            data += part
            if len(data) > MAX_BYTES:
                raise ValueError(f"{url} answers with more than {MAX_BYTES:,} bytes")
    found: dict[str, Any] = msgspec.json.decode(bytes(data), type=dict[str, Any])
    return found


def _safe(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return url
    raise ValueError(f"it names {url[:200]!r}, which is not https")


def _keys(document: Mapping[str, Any]) -> tuple[Key, ...]:
    """The public keys in a key set that signatures can be checked with; others in it are for somebody else."""
    given = document.get("keys")
    if not isinstance(given, list):
        raise ValueError("its key set has no keys")  # noqa: TRY004  one of the ways in which an answer is wrong
    found: list[Key] = []
    for one in given[:MAX_KEYS]:
        if not isinstance(one, dict) or one.get("kty") == "oct" or one.get("use", "sig") != "sig":
            continue
        if one.get("kty") == "RSA" and len(str(one.get("n", ""))) < MIN_RSA_BITS // 6:
            continue
        try:
            key = JWKRegistry.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if not isinstance(key, OctKey):
            found.append(key)
    return tuple(found)


def _fits(key: Key, algorithm: str) -> bool:
    """Whether signatures of that kind are made with such a key. Source: RFC 7518, section 3.1; RFC 9864."""
    named = key.get("alg")
    if named is not None and named != algorithm and {named, algorithm} != {"EdDSA", "Ed25519"}:
        return False
    if algorithm[:2] in ("RS", "PS"):
        return isinstance(key, RSAKey) and key.raw_value.key_size >= MIN_RSA_BITS
    if algorithm[:2] == "ES":
        curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}.get(algorithm)
        return isinstance(key, ECKey) and key.curve_name == curve
    return isinstance(key, OKPKey) and key.curve_name == "Ed25519"
