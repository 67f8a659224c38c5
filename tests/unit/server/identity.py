"""An identity provider of the tests' own, over real HTTP: discovery, keys, a login that lets everybody in."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import Key, RSAKey
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from collegium.server.listener import Listener, listen, url_of
from collegium.testing.clock import FakeClock

CLIENT, AUDIENCE = "console", "collegium-api"
FIRST, OTHER = (RSAKey.generate_key(2048, {"kid": kid, "use": "sig"}, auto_kid=False) for kid in ("first", "other"))
"""The provider's key, and one that is nobody's; making one takes a while."""


class Anything(JWSRegistry):
    """Signs whatever it is given, as a forger does."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: dict[str, Any]) -> None:
        pass


class Identity:
    """The provider; what it does is counted in ``asked``."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.issuer = ""
        self.keys: list[Key] = [FIRST]
        self.asked: dict[str, int] = {"discovery": 0, "keys": 0, "token": 0}
        self.is_away = False
        self.codes: dict[str, dict[str, str]] = {}
        self.changes: dict[str, Any] = {}
        self.forms: list[dict[str, str]] = []

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a user; None takes one away."""
        now = int(self.clock.now().timestamp())
        found: dict[str, Any] = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "nbf": now, "exp": now + 600,
            "tenant": "acme", "roles": ["ops"],
        }  # fmt: skip
        found |= changes
        return {name: value for name, value in found.items() if value is not None}

    def token(self, *, key: Key | None = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token of it."""
        signing = key or self.keys[-1]
        head = {"alg": "RS256", "kid": signing.kid, **(header or {})}
        return jwt.encode(head, self.claims(**changes), signing, registry=Anything())

    def approve(self, url: str) -> dict[str, str]:
        """What a browser brings back that was sent to ``url``, once its user has logged in."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"state": asked["state"], "code": code, "iss": self.issuer}

    def routes(self) -> list[Route]:
        return [
            Route("/.well-known/openid-configuration", self._discovery),
            Route("/keys", self._key_set),
            Route("/token", self._token, methods=["POST"]),
        ]

    async def _discovery(self, request: Request) -> Response:
        self.asked["discovery"] += 1
        if self.is_away:
            return JSONResponse({}, 500)
        return JSONResponse({
            "issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys",
            "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
        })  # fmt: skip

    async def _key_set(self, request: Request) -> Response:
        self.asked["keys"] += 1
        public = [key.as_dict(private=False) for key in self.keys]
        return JSONResponse({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "odd"}, *public]})

    async def _token(self, request: Request) -> Response:
        self.asked["token"] += 1
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        self.forms.append({**form, "authorization": request.headers.get("authorization", "")})
        asked = self.codes.pop(form["code"], None)
        made = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        is_fine = (
            asked is not None
            and asked["code_challenge"] == made.rstrip(b"=").decode()
            and asked["redirect_uri"] == form["redirect_uri"]
        )
        if asked is None or not is_fine:
            return JSONResponse({"error": "invalid_grant"}, 400)
        changes = {"aud": CLIENT, "nonce": asked["nonce"], **self.changes}
        return JSONResponse({"id_token": self.token(**changes), "token_type": "Bearer"})


@asynccontextmanager
async def identity(clock: FakeClock) -> AsyncIterator[Identity]:
    """The provider, listening on loopback."""
    made = Identity(clock)
    listening = listen("127.0.0.1", 0)
    made.issuer = url_of(listening)
    listener = Listener(Starlette(routes=made.routes()), listening)
    listener.start()
    try:
        yield made
    finally:
        await listener.aclose()


def part(document: object) -> str:
    """A part of a token, as it stands in one."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def later(clock: FakeClock, seconds: float) -> float:
    return (clock.now() + timedelta(seconds=seconds)).timestamp()
