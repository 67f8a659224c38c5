"""Tokens of an identity provider: those that hold, and every way in which one does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OKPKey, RSAKey

from collegium.domain.errors import IdentityUnavailable, NotAuthenticated, UsageError
from collegium.domain.principal import READ
from collegium.server.auth.oidc import Oidc, OidcPolicy
from collegium.server.auth.provider import Provider
from collegium.testing.clock import FakeClock
from collegium.testing.harness import team
from tests.unit.server.conftest import Serve
from tests.unit.server.identity import AUDIENCE, FIRST, OTHER, Identity, identity, part
from tests.unit.server.test_auth_keys import bearer, door
from tests.unit.stores.moved import working

ALGORITHMS = ("RS256", "PS256", "ES256", "Ed25519", "EdDSA")


class Checked(NamedTuple):
    clock: FakeClock
    idp: Identity
    oidc: Oidc


def oidc_of(idp: Identity, clock: FakeClock, **more: Any) -> Oidc:
    policy = OidcPolicy(
        issuer=idp.issuer,
        audience=AUDIENCE,
        algorithms=ALGORITHMS,
        tenant_claim="tenant",
        roles={"ops": ["operator", "approvals:decide"], "boss": ["admin"]},
        default_roles=["viewer"],
    )
    return Oidc(policy._replace(**more), Provider(idp.issuer, clock=clock), clock=clock)


@asynccontextmanager
async def checked(**more: Any) -> AsyncIterator[Checked]:
    clock = FakeClock()
    async with identity(clock) as idp:
        yield Checked(clock, idp, oidc_of(idp, clock, **more))


async def refusal(found: Checked, token: str) -> str:
    with pytest.raises(NotAuthenticated) as refused:
        await found.oidc.identify(token)
    assert refused.value.__cause__ is None or token not in str(refused.value)
    return refused.value.message


async def test_a_token_says_who_whose_and_what():
    async with checked() as found:
        principal = await found.oidc.identify(found.idp.token())
        assert (principal.id, principal.tenant, principal.kind) == ("user:ada", "acme", "user")
        assert principal.may("runs:write")
        assert principal.may("approvals:decide")
        assert not principal.may("admin")
        assert principal.expires_at is not None
        assert principal.expires_at.timestamp() == found.clock.now().timestamp() + 630
        stranger = await found.oidc.identify(found.idp.token(sub="eve", roles=["nobody", 7], aud=["x", AUDIENCE]))
        assert (stranger.id, stranger.scopes) == ("user:eve", READ)


async def test_roles_are_found_where_the_provider_puts_them():
    async with checked(roles_claim="realm_access.roles") as found:
        token = found.idp.token(realm_access={"roles": ["boss"]})
        assert (await found.oidc.identify(token)).may("admin")
    async with checked(roles_claim="https://example.com/groups", default_roles=()) as found:
        groups: dict[str, Any] = {"https://example.com/groups": "ops other"}
        token = found.idp.token(**groups)
        assert (await found.oidc.identify(token)).may("runs:write")
        assert (await found.oidc.identify(found.idp.token())).scopes == frozenset()
    with pytest.raises(UsageError, match="no scope 'king'"):
        Oidc(
            OidcPolicy("https://x", "a", ("RS256",), default_roles=["king"]),
            Provider("https://x", clock=FakeClock()),
            clock=FakeClock(),
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "another"}, "somebody else"),
        ({"aud": None}, "somebody else"),
        ({"aud": {"a": 1}}, "somebody else"),
        ({"aud": [["collegium-api"]]}, "somebody else"),
        ({"exp": None}, "expired"),
        ({"exp": 1}, "expired"),
        ({"exp": "never"}, "no time"),
        ({"exp": True}, "no time"),
        ({"exp": 1e308}, "no time"),
        ({"exp": float("inf")}, "no time"),
        ({"exp": float("nan")}, "no time"),
        ({"nbf": 9_999_999_999}, "not hold yet"),
        ({"iat": 9_999_999_999}, "not hold yet"),
        ({"sub": None}, "whose it is"),
        ({"sub": ""}, "whose it is"),
        ({"sub": 7}, "whose it is"),
        ({"sub": "a\r\nSet-Cookie: x"}, "whose it is"),
        ({"sub": "a" * 256}, "whose it is"),
        ({"tenant": None}, "which tenant"),
        ({"tenant": "~keys"}, "which tenant"),
        ({"tenant": ["acme"]}, "which tenant"),
        ({"tenant": "a/b"}, "which tenant"),
        ({"roles": {"a": "b"}, "tenant": 7}, "which tenant"),
    ],
)
async def test_claims_that_are_refused(changes: dict[str, Any], said: str):
    async with checked() as found:
        assert said in await refusal(found, found.idp.token(**changes))


async def test_clocks_may_be_off_a_little():
    async with checked() as found:
        now = int(found.clock.now().timestamp())
        await found.oidc.identify(found.idp.token(exp=now - 29))
        await found.oidc.identify(found.idp.token(nbf=now + 29, iat=now + 29))
        assert "expired" in await refusal(found, found.idp.token(exp=now - 30))
        assert "not hold yet" in await refusal(found, found.idp.token(nbf=now + 31))


async def test_a_token_that_was_believed_still_expires():
    async with checked() as found:
        token = found.idp.token(exp=int(found.clock.now().timestamp()) + 20)
        await found.oidc.identify(token)
        await found.clock.advance(49)
        await found.oidc.identify(token)
        await found.clock.advance(1)
        assert "expired" in await refusal(found, token)


def unsigned(idp: Identity) -> str:
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(idp.claims())}."


def by_secret(idp: Identity, kid: str, secret: bytes) -> str:
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{part(idp.claims())}"
    mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def confused(idp: Identity) -> str:
    """HS256, with the provider's public key as the secret."""
    return by_secret(idp, "first", FIRST.as_pem(private=False))


def shared(idp: Identity) -> str:
    """HS256 with a secret that the key set names."""
    return by_secret(idp, "shared", b"secret")


def own_key(idp: Identity) -> str:
    """A key that the token itself brings."""
    return idp.token(key=OTHER, header={"jwk": OTHER.as_dict(private=False), "jku": "http://127.0.0.1:1/keys"})


def same_name(idp: Identity) -> str:
    """Another key under the provider's name."""
    return idp.token(key=OTHER, header={"kid": "first"})


def tampered(idp: Identity) -> str:
    head, _, signature = idp.token().split(".")
    return f"{head}.{part(idp.claims(roles=['boss']))}.{signature}"


def bent(idp: Identity) -> str:
    """ES256 over a key of RSA."""
    key = ECKey.generate_key("P-256", {"kid": "first"}, auto_kid=False)
    return idp.token(key=key, header={"alg": "ES256"})


def unsound(idp: Identity) -> str:
    return f"{part({'alg': 'RS256', 'kid': 'first'})}.{part({})}.{'A' * 342}"


FORGED: dict[str, Callable[[Identity], str]] = {
    "alg none": unsigned,
    "alg None": lambda idp: f"{part({'alg': 'None'})}.{part(idp.claims())}.",
    "no alg": lambda idp: f"{part({})}.{part(idp.claims())}.",
    "alg list": lambda idp: f"{part({'alg': ['none']})}.{part(idp.claims())}.",
    "HS over RS": confused,
    "shared secret": shared,
    "own key": own_key,
    "same name": same_name,
    "tampered": tampered,
    "ES over RS": bent,
    "wrong signature": unsound,
    "kid number": lambda idp: f"{part({'alg': 'RS256', 'kid': 7})}.{part(idp.claims())}.AAAA",
    "kid path": lambda idp: f"{part({'alg': 'RS256', 'kid': '../../dev/null'})}.{part(idp.claims())}.AAAA",
    "crit": lambda idp: idp.token(header={"crit": ["exp"], "exp": 1}),
    "truncated": lambda idp: idp.token()[:-20],
    "two parts": lambda idp: ".".join(idp.token().split(".")[:2]),
    "five parts": lambda idp: idp.token() + ".a.b",
    "nested header": lambda idp: f"{'W1tb' * 2_000}.e30.AAAA",
    "logout": lambda idp: idp.token(header={"typ": "logout+jwt"}),
    "empty": lambda idp: "..",
    "payload is a list": lambda idp: f"{part({'alg': 'RS256', 'kid': 'first'})}.{part([])}.AAAA",
    "50 kB": lambda idp: "a" * 50_000,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_refused(forge: Callable[[Identity], str], serve: Serve):
    async with checked() as found, team(working()) as app:
        served = await serve(app, authenticator=door(app, found.clock, may_be_open=False, oidc=found.oidc))
        token = forge(found.idp)
        reply = await served.http.get("/v1/runs", headers=bearer(token))
        assert (reply.status_code, reply.json()["code"]) == (401, "not_authenticated"), reply.text
        assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        assert len(token) < 10 or token[:40] not in reply.text
        good = await served.http.get("/v1/runs", headers=bearer(found.idp.token(roles=["ops"])))
        assert good.status_code == 200, good.text


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("PS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("ES256", ECKey.generate_key("P-256", auto_kid=True)),
        ("Ed25519", OKPKey.generate_key("Ed25519", auto_kid=True)),
        ("EdDSA", OKPKey.generate_key("Ed25519", auto_kid=True)),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
async def test_signatures_that_are_taken(algorithm: str, key: RSAKey | ECKey | OKPKey):
    async with checked() as found:
        found.idp.keys.append(key)
        head = {"alg": algorithm, "kid": key.kid}
        token = found.idp.token(key=key, header=head)
        assert (await found.oidc.identify(token)).id == "user:ada"
        narrow = oidc_of(found.idp, found.clock, algorithms=tuple(a for a in ALGORITHMS if a != algorithm))
        with pytest.raises(NotAuthenticated, match="not taken"):
            await narrow.identify(token)


async def test_keys_are_fetched_once_and_again_for_a_new_one():
    async with checked() as found:
        for n in range(5):
            await found.oidc.identify(found.idp.token(n=n))
        assert found.idp.asked["keys"] == 1
        found.idp.keys.append(OTHER)
        await found.clock.advance(31)
        await found.oidc.identify(found.idp.token())
        assert found.idp.asked["keys"] == 2
        for n in range(20):  # a storm of forged names asks the provider nothing
            await refusal(found, found.idp.token(header={"kid": f"forged {n}"}))
        assert found.idp.asked["keys"] == 2


async def test_a_provider_that_is_away(serve: Serve):
    async with checked() as found, team(working()) as app:
        served = await serve(app, authenticator=door(app, found.clock, may_be_open=False, oidc=found.oidc))
        found.idp.is_away = True
        reply = await served.http.get("/v1/runs", headers=bearer(found.idp.token()))
        assert (reply.status_code, reply.json()["code"]) == (503, "identity_unavailable")
        found.idp.is_away = False
        await found.clock.advance(31)
        assert (await served.http.get("/v1/runs", headers=bearer(found.idp.token()))).status_code == 200
        found.idp.is_away = True
        await found.clock.advance(4_000)
        reply = await served.http.get("/v1/runs", headers=bearer(found.idp.token()))
        assert reply.status_code == 200, "its keys are known"


async def test_a_provider_has_to_be_who_it_says():
    async with checked() as found:
        other = Oidc(
            found.oidc.policy._replace(issuer=found.idp.issuer + "/"),
            Provider(found.idp.issuer + "/", clock=found.clock),
            clock=found.clock,
        )
        with pytest.raises(IdentityUnavailable):
            await other.identify(found.idp.token(iss=found.idp.issuer + "/"))


async def test_a_key_that_is_too_short_signs_nothing():
    made = rsa.generate_private_key(65_537, 1_024)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = RSAKey.import_key(pem, {"kid": "short"})
    async with checked() as found:
        found.idp.keys.append(short)
        assert "does not have" in await refusal(found, found.idp.token(key=short))
        await found.oidc.identify(found.idp.token(key=FIRST))


async def test_the_time_of_the_fake_is_not_the_real_one():
    """Tokens are held against the injected clock: these have expired long ago by the real one."""
    async with checked() as found:
        assert found.idp.claims()["exp"] < time.time()
        await found.oidc.identify(found.idp.token())
